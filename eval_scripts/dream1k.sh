#!/usr/bin/env bash
# Dream-1k: 1,000 videos from five origins, detailed captions. F1, precision, recall by AutoDQ, by subset (paper, Tables 6 and 7).
#
# Usage  MODEL=... [JUDGE=judge.yaml] [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/dream1k.sh [--flag value ...]
#        JUDGE names the LLM that scores (docs/judge.md). Without it the captions are written only; once the GPUs are free for a
#        judge, `videochat-r1 eval --rescore FOLDER --judge judge.yaml` scores them.
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" dream1k --benchmark dream1k ${JUDGE:+--judge "$JUDGE"} \
  --annotations dream1k/DREAM-1k.jsonl --videos dream1k/videos "$@"
