#!/usr/bin/env bash
# EgoSchema: the 500 questions whose answers are public. Accuracy.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/egoschema.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" egoschema --benchmark egoschema \
  --annotations egoschema --videos egoschema/videos "$@"
