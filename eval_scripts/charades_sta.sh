#!/usr/bin/env bash
# Charades-STA test: 3,720 queries about 1,334 videos. mIoU, R1@0.3/0.5/0.7 (paper, Table 1).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/charades_sta.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" charades_sta --benchmark charades_sta \
  --annotations charades_sta/test.json --videos charades_sta/videos --train-annotations charades_sta/train.json "$@"
