#!/usr/bin/env bash
# VidTAB quality, test list: 724 videos of low or high quality. Accuracy (paper, Table 6).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/vidtab_quality.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" vidtab_quality --benchmark vidtab_quality \
  --annotations vidtab/quality_test.json --videos vidtab/videos "$@"
