#!/usr/bin/env bash
# Runs a list of benchmarks and prints the paper's Table 1 with its values and ours. What is done already is not done again.
#
# Usage  MODEL=... [DATA=...] [OUTPUT=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/all.sh [--flag value ...]
#        BENCHMARKS="charades_sta got10k" chooses; default: the benchmarks of Table 1, Video-MME's short videos
# A benchmark that fails (its data is not there, for instance) is named at the end; the others run all the same.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ -n ${MODEL:-} ]] || { echo "eval: error: set MODEL: the folder, or hub name, of the model" >&2; exit 2; }
suffix=""
[[ ${THINKING:-false} == true ]] && suffix=-thinking
export OUTPUT=${OUTPUT:-$here/../outputs/eval/$(basename "$MODEL")$suffix}
export SUBSET=${SUBSET:-short}
failed=()
for name in ${BENCHMARKS:-charades_sta activitynet nextgqa got10k videomme mvbench perception_test}; do
  [[ -f $here/$name.sh ]] || { echo "eval: error: there is no $name.sh" >&2; exit 2; }
  echo "eval: $name"
  bash "$here/$name.sh" "$@" || failed+=("$name")
done
if [[ " $* " != *" --dry-run "* && -d $OUTPUT ]]; then
  "$here/../.venv/bin/python" -m videochat_r1.cli eval --table "$OUTPUT" --name "$(basename "$MODEL")$suffix"
fi
if ((${#failed[@]})); then
  echo "eval: not finished: ${failed[*]}" >&2
  exit 1
fi
