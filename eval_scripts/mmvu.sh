#!/usr/bin/env bash
# MMVU, validation: 1,000 questions of experts. Accuracy; open questions and the authors' accuracy take a judge.
#
# Usage  MODEL=... [JUDGE=judge.yaml] [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/mmvu.sh [--flag value ...]
#        SUBSET (default all) is one of the benchmark's subsets (docs/evaluation.md). Without JUDGE (docs/judge.md) the answers
#        that only a judge can score are unscored; SUBSET=multiple-choice has none.
subset=${SUBSET:-all}
name=mmvu
[[ $subset == all ]] || name+=_$subset
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark mmvu --subset "$subset" ${JUDGE:+--judge "$JUDGE"} \
  --annotations mmvu/validation.json --videos mmvu/videos "$@"
