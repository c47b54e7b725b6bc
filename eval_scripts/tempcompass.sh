#!/usr/bin/env bash
# TempCompass: 7,540 questions of four tasks. Accuracy by task and aspect; captions take a judge.
#
# Usage  MODEL=... [JUDGE=judge.yaml] [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/tempcompass.sh [--flag value ...]
#        SUBSET (default all) is one of the benchmark's subsets (docs/evaluation.md). Without JUDGE (docs/judge.md) the answers
#        that only a judge can score are unscored.
subset=${SUBSET:-all}
name=tempcompass
[[ $subset == all ]] || name+=_$subset
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark tempcompass --subset "$subset" ${JUDGE:+--judge "$JUDGE"} \
  --annotations tempcompass/questions --videos tempcompass/videos "$@"
