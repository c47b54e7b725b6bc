#!/usr/bin/env bash
# LVBench: 1,549 questions about 103 videos of an hour. Accuracy, by category and genre.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/lvbench.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" lvbench --benchmark lvbench \
  --annotations lvbench/video_info.meta.jsonl --videos lvbench/videos "$@"
