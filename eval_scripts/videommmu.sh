#!/usr/bin/env bash
# Video-MMMU: 900 questions about lectures, in three tracks. Accuracy by track and domain. SUBSET=perception|comprehension|adaptation,
# or knowledge_gain: adaptation with and without the lectures, and how much was learned.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/videommmu.sh [--flag value ...]
subset=${SUBSET:-all}
name=videommmu
[[ $subset == all ]] || name+=_$subset
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark videommmu --subset "$subset" \
  --annotations videommmu --videos videommmu/videos "$@"
