#!/usr/bin/env bash
# Video-MME: 2,700 questions about 900 videos. Accuracy, by duration. SUBSET=short is the paper's part (Table 1, Short-Avg).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/videomme.sh [--flag value ...]
#        SUBSET=short|medium|long|all (default all), SUBTITLES=true quotes the subtitles in the prompt
subset=${SUBSET:-all}
name=videomme
[[ $subset == all ]] || name+=_$subset
flags=()
if [[ ${SUBTITLES:-false} == true ]]; then
  name+=_subtitles
  flags=(--subtitles videomme/subtitle)
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark videomme --subset "$subset" \
  --annotations videomme/test-00000-of-00001.parquet --videos videomme/videos ${flags[@]+"${flags[@]}"} "$@"
