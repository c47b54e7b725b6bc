#!/usr/bin/env bash
# MLVU, dev set: 2,593 questions of nine tasks. M-Avg, the mean of the accuracies of those with options; open ones take a judge (G-Avg).
#
# Usage  MODEL=... [JUDGE=judge.yaml] [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/mlvu.sh [--flag value ...]
#        SUBSET (default all) is one of the benchmark's subsets: multiple-choice needs no judge (docs/judge.md).
#        The test set: SUBSET=test ... --annotations FILE --videos FOLDER
subset=${SUBSET:-all}
name=mlvu
[[ $subset == all ]] || name+=_$subset
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark mlvu --subset "$subset" ${JUDGE:+--judge "$JUDGE"} \
  --annotations mlvu/json --videos mlvu/video "$@"
