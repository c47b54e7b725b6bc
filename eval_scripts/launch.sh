#!/usr/bin/env bash
# Runs one benchmark on the GPUs of this machine; the scripts beside this file call it.
#
#   bash eval_scripts/launch.sh NAME --benchmark B --annotations PATH --videos DIR [--flag value ...]
#
# NAME is the folder of the result below OUTPUT. Paths are relative to DATA unless they begin with / or ./.
# Variables:
#   MODEL     model folder or hub name (required)
#   DATA      folder of the benchmarks; default: data
#   OUTPUT    folder of the results; default: outputs/eval/<name of the model>[-thinking]
#   THINKING  true asks for <think> (configs/eval/thinking.yaml); default: false (configs/eval/direct.yaml)
#   RECIPE    another recipe in place of these two, such as configs/eval/video_r1.yaml
#   FRAMES    most frames of a video; the result then lies in the folder <FRAMES>_frames of OUTPUT; default: the recipe's
#   NUM_GPUS  processes, one per GPU; default: all, of CUDA_VISIBLE_DEVICES where that is set; 0: one process on the CPU
# A run that was interrupted goes on where it stopped. `--dry-run` prints the command instead of running it.
set -euo pipefail

usage() { sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() { echo "eval: error: $1" >&2; exit 2; }

(($# >= 1)) || { usage >&2; exit 2; }
name=$1
shift
[[ -n ${MODEL:-} ]] || fail "set MODEL: the folder, or hub name, of the model"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ -e $MODEL ]] && MODEL=$(realpath "$MODEL")
data=$(realpath -m "${DATA:-$root/data}")
case "${THINKING:-false}" in
  true) config=configs/eval/thinking.yaml; suffix=-thinking ;;
  false) config=configs/eval/direct.yaml; suffix="" ;;
  *) fail "THINKING is '$THINKING'; expected true or false" ;;
esac
output=$(realpath -m "${OUTPUT:-$root/outputs/eval/$(basename "$MODEL")$suffix}")
[[ -n ${RECIPE:-} ]] && config=$RECIPE

flags=()
if [[ -n ${FRAMES:-} ]]; then
  [[ $FRAMES =~ ^[0-9]+$ ]] || fail "FRAMES is '$FRAMES'; expected a number"
  output+=/${FRAMES}_frames
  flags+=(--max-frames "$FRAMES")
fi
dry_run=false
while (($#)); do
  case "$1" in
    --dry-run) dry_run=true; shift ;;
    --annotations | --videos | --subtitles | --durations)
      (($# >= 2)) || fail "$1 needs a path"
      case "$2" in /* | ./*) path=$(realpath -m "$2") ;; *) path=$data/$2 ;; esac
      flags+=("$1" "$path"); shift 2 ;;
    --judge) # the caller's file
      (($# >= 2)) || fail "--judge needs a YAML file"
      flags+=("$1" "$(realpath -m "$2")"); shift 2 ;;
    --train-annotations) # a baseline more, where the file is at hand
      (($# >= 2)) || fail "$1 needs a path"
      case "$2" in /* | ./*) path=$(realpath -m "$2") ;; *) path=$data/$2 ;; esac
      [[ -e $path ]] && flags+=("$1" "$path"); shift 2 ;;
    *) flags+=("$1"); shift ;;
  esac
done
cd "$root"
. training_scripts/gpus.sh
choose_gpus runs
((NUM_GPUS == 0)) && flags+=(--device cpu --dtype float32)
processes=$((NUM_GPUS > 0 ? NUM_GPUS : 1))
variables=("CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES" "TOKENIZERS_PARALLELISM=${TOKENIZERS_PARALLELISM:-false}")
if ((processes == 1)); then
  start=(.venv/bin/python -m videochat_r1.cli)
else
  variables+=("OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}")
  start=(.venv/bin/torchrun --standalone --nproc_per_node "$processes" -m videochat_r1.cli)
fi
start=(env "${variables[@]}" "${start[@]}" eval --config "$config" --model "$MODEL" --output "$output/$name" "${flags[@]}")
if [[ $dry_run == true ]]; then
  printf '%q ' "${start[@]}"
  echo
  exit 0
fi
bash training_scripts/setup.sh
echo "eval: $(printf '%q ' "${start[@]}")"
exec "${start[@]}"
