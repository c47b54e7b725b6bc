#!/usr/bin/env bash
# POPE: 9,000 questions whether a picture of COCO (val2014) shows an object. F1, accuracy, precision, recall, share of yes, by subset.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/pope.sh [--flag value ...]
#        SUBSET=random|popular|adversarial|all (default all)
subset=${SUBSET:-all}
name=pope
[[ $subset == all ]] || name+=_$subset
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$name" --benchmark pope --subset "$subset" \
  --annotations pope --videos pope/val2014 "$@"
