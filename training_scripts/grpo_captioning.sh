#!/usr/bin/env bash
# GRPO on captioning alone: FIBER-1k (CaReBench) with Qwen2-VL-7B, event recall by an LLM judge (paper Tables 6 and 7).
#
# Hardware     8 GPUs of 80 GB, DeepSpeed ZeRO-3 (the paper: 8 x A100-80G); fewer: --deepspeed configs/deepspeed/zero3_offload.json
# Batch        8 prompts x 8 completions an update: 1 prompt on each of 8 GPUs; 4, 2 or 1 GPUs accumulate 2, 4 or 8 passes
# Length       1,000 samples, 125 updates
# Hours        the paper: about 10 for a single task; with this code: not measured
# Judge        an OpenAI-compatible server, started before: `judge` of the recipe, docs/judge.md; another one: --judge.base_url
#              ADDRESS --judge.model NAME. Qwen2.5-72B (the paper's) needs GPUs besides the 8 that train
# Usage        MODEL=... DATA=... OUTPUT=... NUM_GPUS=8 bash training_scripts/grpo_captioning.sh [--learning_rate 5e-7 ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" grpo configs/grpo/captioning.yaml "$@"
