#!/usr/bin/env bash
# VSI-Bench: 5,130 spatial questions. Unweighted mean of the eight tasks.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/vsi_bench.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" vsi_bench --benchmark vsi_bench \
  --annotations vsi_bench/test.jsonl --videos vsi_bench "$@"
