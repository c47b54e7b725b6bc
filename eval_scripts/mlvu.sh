#!/usr/bin/env bash
# MLVU, dev set: 2,175 questions with options, of seven tasks. M-Avg, the mean of the tasks' accuracies.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/mlvu.sh [--flag value ...]
#        The test set: --subset test --annotations FILE --videos FOLDER
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" mlvu --benchmark mlvu \
  --annotations mlvu/json --videos mlvu/video "$@"
