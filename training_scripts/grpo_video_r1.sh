#!/usr/bin/env bash
# Video-R1: T-GRPO on questions about videos and pictures, from its cold start (sft_video_r1_cot.sh, or the released one).
#
# Hardware     4 GPUs of 80 GB, DeepSpeed ZeRO-3 (the paper: up to 8 x A100-80G); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        4 prompts x 8 completions an update, 4 more for each video whose frames are shuffled: 1 prompt on each of 4 GPUs; 2 or 1
#              GPUs accumulate 2 or 4 passes; 8 GPUs: --prompts_per_step 8, another recipe
# Length       1,000 updates, 4,000 of 263,071 samples; longer: --max_steps N --lr_scheduler_kwargs.num_cycles (0.5 x N / 65,768)
# Hours        the paper: about 15; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=4 bash training_scripts/grpo_video_r1.sh [--temporal_contrast.preset paper ...]
#
# Ablations: --config configs/grpo/ablations/video_r1_without_temporal.yaml
#            --config configs/grpo/ablations/video_r1_without_images.yaml
#            --config configs/grpo/ablations/video_r1_without_cold_start.yaml
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" grpo configs/grpo/video_r1.yaml "$@"
