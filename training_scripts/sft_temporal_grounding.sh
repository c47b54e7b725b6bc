#!/usr/bin/env bash
# Supervised fine-tuning on temporal grounding: Charades-STA (paper Table 1, Table 3).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3; fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 samples an update: 1 on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       5,338 samples, 5,336 of them with a target that can be reached, 667 updates
# Hours        the paper states none; with this code: not measured
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/sft_temporal_grounding.sh [--learning_rate 1e-5 ...]
#
# Table 3, three epochs:   --config configs/sft/ablations/table3_three_epochs.yaml
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" sft configs/sft/temporal_grounding.yaml "$@"
