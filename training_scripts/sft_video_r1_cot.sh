#!/usr/bin/env bash
# Video-R1's cold start: supervised fine-tuning on the responses of its 165k, before T-GRPO (grpo_video_r1.sh).
#
# Hardware     4 GPUs of 80 GB, DeepSpeed ZeRO-2 (the paper: 4 to 8); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 samples an update: 1 on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       165,575 samples, 20,696 updates
# Hours        the paper: about 40; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=4 bash training_scripts/sft_video_r1_cot.sh [--mixture.0.max_samples 10000 ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" sft configs/sft/video_r1_cot.yaml "$@"
