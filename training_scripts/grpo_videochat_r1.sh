#!/usr/bin/env bash
# VideoChat-R1: joint GRPO on temporal grounding, tracking and grounded QA (paper 3.3, Table 1).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3 (the paper: 8 x A100-80G); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 prompts x 8 completions an update: 1 prompt on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       18,031 samples, 18,029 of them with a target that can be reached, 2,253 updates
# Hours        the paper: about 30; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/grpo_videochat_r1.sh [--learning_rate 5e-7 ...]
#
# VideoChat-R1-thinking:  --config configs/grpo/joint_thinking.yaml
# The same on Qwen3-VL:   --config configs/grpo/joint_qwen3_vl.yaml
# Table 2 "w/ STA-GQA":   --config configs/grpo/ablations/table2_grounding_and_grounded_qa.yaml (8,696 samples)
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" grpo configs/grpo/joint.yaml "$@"
