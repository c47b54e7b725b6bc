#!/usr/bin/env bash
# LongVideoBench, validation split: 1,337 questions. Accuracy, by duration group (paper, Table 8).
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/longvideobench.sh [--flag value ...]
#        SUBTITLES=true quotes the subtitles in the prompt
name=longvideobench
flags=()
if [[ ${SUBTITLES:-false} == true ]]; then
  name+=_subtitles
  flags=(--subtitles longvideobench/subtitles)
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark longvideobench \
  --annotations longvideobench/lvb_val.json --videos longvideobench/videos ${flags[@]+"${flags[@]}"} "$@"
