#!/usr/bin/env bash
# NExT-GQA test: 5,553 questions with clue spans. Accuracy, union mIoU (paper, Table 1) and the official metrics.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/nextgqa.sh [--flag value ...]
#        TASK=multi_choice_qa asks for the option alone (paper, Table 5)
task=${TASK:-grounded_qa}
name=nextgqa
[[ $task == grounded_qa ]] || name=nextgqa_$task
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark nextgqa --task "$task" \
  --annotations nextgqa/test.csv --videos nextgqa/videos --train-annotations nextgqa/val.csv "$@"
