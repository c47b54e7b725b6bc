#!/usr/bin/env bash
# MVBench: 20 tasks of 200 questions. Mean of the 20 accuracies (paper, Table 1, Avg).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/mvbench.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" mvbench --benchmark mvbench \
  --annotations mvbench/json --videos mvbench/video "$@"
