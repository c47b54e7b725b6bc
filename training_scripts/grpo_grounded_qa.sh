#!/usr/bin/env bash
# GRPO on grounded QA alone: NExT-GQA (paper Table 2 "w/ GQA", Table 5 with clues).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3 (the paper: 8 x A100-80G); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 prompts x 8 completions an update: 1 prompt on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       3,358 samples, 419 updates
# Hours        the paper: about 10 for a single task; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/grpo_grounded_qa.sh [--learning_rate 5e-7 ...]
#
# Table 5, chain of thought:   --config configs/grpo/ablations/table5_clues_thinking.yaml
# Over two looks:              --config configs/grpo/second_look.yaml
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" grpo configs/grpo/grounded_qa.yaml "$@"
