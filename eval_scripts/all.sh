#!/usr/bin/env bash
# Runs the benchmarks of a paper's table and prints it with the published values and ours. What is done already is not done again.
#
# Usage  MODEL=... [DATA=...] [OUTPUT=...] [NUM_GPUS=8] bash eval_scripts/all.sh [--table NAME] [--flag value ...]
#        --table videochat_r1 (default): Table 1 of VideoChat-R1, of Video-MME the short videos; LVBench and MLVU beside it.
#            THINKING=true asks for <think>.
#        --table video_r1: the table of Video-R1 by its recipe, from its own files (DATA/video_r1_eval: eval_*.json and the folder
#            Evaluation that their paths start from). FRAMES="16 32 64" (default) are run one after the other.
#        BENCHMARKS="charades_sta got10k" chooses among the table's.
# A benchmark that fails (its data is not there, for instance) is named at the end, and is "not run" in the table; the others run all the same.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ -n ${MODEL:-} ]] || { echo "eval: error: set MODEL: the folder, or hub name, of the model" >&2; exit 2; }
table=videochat_r1
flags=()
while (($#)); do
  case "$1" in
    --table) (($# >= 2)) || { echo "eval: error: --table needs a name" >&2; exit 2; }; table=$2; shift 2 ;;
    *) flags+=("$1"); shift ;;
  esac
done
suffix=""
[[ ${THINKING:-false} == true ]] && suffix=-thinking
case "$table" in
  videochat_r1)
    names="charades_sta activitynet nextgqa got10k videomme mvbench perception_test lvbench mlvu"
    all_frames=${FRAMES:-} ;;
  video_r1)
    names="vsi_bench videommmu mmvu mvbench tempcompass videomme"
    all_frames=${FRAMES:-16 32 64}
    export RECIPE=${RECIPE:-configs/eval/video_r1.yaml}
    flags=(--annotations video_r1_eval --videos video_r1_eval ${flags[@]+"${flags[@]}"})
    suffix=-video_r1 ;;
  *) echo "eval: error: --table is '$table'; expected videochat_r1 or video_r1" >&2; exit 2 ;;
esac
export OUTPUT=${OUTPUT:-$here/../outputs/eval/$(basename "$MODEL")$suffix}
failed=()
run() { # benchmark, frames
  local subset=${SUBSET:-}
  case "$table/$1" in
    videochat_r1/videomme) subset=${subset:-short} ;;
    videochat_r1/mlvu) subset=${subset:-multiple-choice} ;;
  esac
  echo "eval: $1${2:+, $2 frames}"
  SUBSET=$subset FRAMES=$2 bash "$here/$1.sh" ${flags[@]+"${flags[@]}"} || failed+=("$1${2:+ ($2 frames)}")
}
for name in ${BENCHMARKS:-$names}; do
  [[ -f $here/$name.sh ]] || { echo "eval: error: there is no $name.sh" >&2; exit 2; }
  for frames in ${all_frames:-""}; do run "$name" "$frames"; done
done
if [[ " ${flags[*]-} " != *" --dry-run "* ]]; then
  mkdir -p "$OUTPUT"
  "$here/../.venv/bin/python" -m videochat_r1.cli eval --table "$OUTPUT" --paper "$table" --name "$(basename "$MODEL")$suffix"
fi
if ((${#failed[@]})); then
  echo "eval: not finished: ${failed[*]}" >&2
  exit 1
fi
