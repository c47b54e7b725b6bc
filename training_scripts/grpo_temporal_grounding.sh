#!/usr/bin/env bash
# GRPO on temporal grounding alone: Charades-STA (paper Table 2 "w/ STA", Table 3).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3 (the paper: 8 x A100-80G); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 prompts x 8 completions an update: 1 prompt on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       5,338 samples, 5,336 of them with a target that can be reached, 667 updates
# Hours        the paper: about 10 for a single task; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/grpo_temporal_grounding.sh [--learning_rate 5e-7 ...]
#
# Table 3, three epochs:            --config configs/grpo/ablations/table3_three_epochs.yaml
# Table 3, trained with thinking:   --config configs/grpo/ablations/table3_thinking.yaml
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" grpo configs/grpo/temporal_grounding.yaml "$@"
