#!/usr/bin/env bash
# Perception Test, validation split: 19,140 questions with three options. Top-1 accuracy (paper, Table 1, Val).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/perception_test.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" perception_test --benchmark perception_test \
  --annotations perception_test/mc_question_valid.json --videos perception_test/videos "$@"
