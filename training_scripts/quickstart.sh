#!/usr/bin/env bash
# Sets everything up and shows, on a machine without a GPU, a small Qwen2.5-VL learning from video with GRPO.
#
# Hardware     2 CPU cores
# Usage        bash training_scripts/quickstart.sh [--from-scratch] [--compare]; --help lists the rest
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/training_scripts/setup.sh"
cd "$root"
exec .venv/bin/python -m videochat_r1.cli quickstart "$@"
