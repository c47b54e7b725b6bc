#!/usr/bin/env bash
# ActivityNet Captions as temporal grounding, val_2: 17,031 queries about 4,885 videos (paper, Table 1; out of domain).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/activitynet.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" activitynet --benchmark activitynet \
  --annotations activitynet/val_2.json --videos activitynet/videos --train-annotations activitynet/train.json "$@"
