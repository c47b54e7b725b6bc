#!/usr/bin/env bash
# Supervised fine-tuning on multiple-choice QA: NExT-GQA without clues (paper Table 5).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3; fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 samples an update: 1 on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       3,358 samples, 419 updates
# Hours        the paper states none; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/sft_multi_choice_qa.sh [--learning_rate 1e-5 ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" sft configs/sft/multi_choice_qa.yaml "$@"
