#!/usr/bin/env bash
# MathVista, testmini: 1,000 questions about pictures. Accuracy, by the authors' attributes; a judge extracts what is no plain answer.
#
# Usage  MODEL=... [JUDGE=judge.yaml] [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/mathvista.sh [--flag value ...]
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" mathvista --benchmark mathvista ${JUDGE:+--judge "$JUDGE"} \
  --annotations mathvista/testmini.json --videos mathvista "$@"
