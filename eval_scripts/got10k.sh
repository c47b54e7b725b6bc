#!/usr/bin/env bash
# GOT-10k val: 180 sequences, 8 boxes each. Overlap and R@0.5/0.7 with and without the given box (paper, Tables 1 and 4),
# AO and SR of the boxes interpolated to every frame.
#
# Usage  MODEL=... [DATA=...] [NUM_GPUS=8] [THINKING=true] bash eval_scripts/got10k.sh [--flag value ...]
#        --box-format native asks a checkpoint in the boxes that its family speaks
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" got10k --benchmark got10k --annotations got10k/val "$@"
