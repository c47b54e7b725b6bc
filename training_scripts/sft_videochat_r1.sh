#!/usr/bin/env bash
# Supervised fine-tuning on the three tasks of VideoChat-R1 jointly: what joint GRPO is to be compared with.
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3; fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 samples an update: 1 on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       18,031 samples, 18,029 of them with a target that can be reached, 2,253 updates
# Hours        the paper states none; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/sft_videochat_r1.sh [--learning_rate 1e-5 ...]
#
# The same on Qwen3-VL:   --config configs/sft/joint_qwen3_vl.yaml
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" sft configs/sft/joint.yaml "$@"
