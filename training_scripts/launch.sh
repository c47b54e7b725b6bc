#!/usr/bin/env bash
# Starts one recipe on any number of processes and nodes; the recipe scripts beside this file call it.
#
#   bash training_scripts/launch.sh grpo|sft RECIPE.yaml [--flag value ...]
#
# Variables (all optional; a flag given at the end wins over them and over the recipe):
#   MODEL          model folder or hub name            (--model_name_or_path)
#   DATA           folder that holds the corpora       (--data_root)
#   OUTPUT         folder of the run; an interrupted run in it goes on from its last checkpoint (--output_dir)
#   NUM_GPUS       GPUs of this node; default: all, of CUDA_VISIBLE_DEVICES where that is set; 0: train on the CPU
#   NUM_PROCESSES  processes on the CPU; default: 1 (on GPUs there is one for each)
#   NNODES NODE_RANK MASTER_ADDR MASTER_PORT   torchrun's, for several nodes; each node runs the same script
# `--config OTHER.yaml` among the flags replaces the recipe. `--deepspeed none` trains without DeepSpeed.
# `--dry-run` prints the command instead of running it.
# A reward of your own is found in the folder that this is called from, and beside the recipe.
set -euo pipefail

usage() { sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() { echo "launch: error: $1" >&2; exit 2; }
whole_number() { [[ $2 =~ ^(0|[1-9][0-9]{0,4})$ ]] || fail "$1 must be a whole number, not '$2'"; }

case "${1:-}" in
  grpo | sft) command=$1 ;;
  *) usage >&2; exit 2 ;;
esac
(($# >= 2)) || { usage >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/training_scripts/gpus.sh"

# Paths are the caller's; those of the recipe (its DeepSpeed file, its data_root) are the project's.
from_caller() { if [[ -e $1 ]]; then realpath "$1"; else echo "$1"; fi; }
caller=$PWD
recipe=$2
[[ -f $root/$recipe ]] || recipe=$(from_caller "$recipe")
shift 2
[[ -n ${MODEL:-} ]] && MODEL=$(from_caller "$MODEL")
[[ -n ${DATA:-} ]] && DATA=$(realpath -m "$DATA")
[[ -n ${OUTPUT:-} ]] && OUTPUT=$(realpath -m "$OUTPUT")

flags=()
dry_run=false
while (($#)); do
  case "$1" in
    --config) (($# >= 2)) || fail "--config needs a file"; recipe=$(from_caller "$2"); shift 2 ;;
    --config=*) recipe=$(from_caller "${1#*=}"); shift ;;
    --deepspeed=*) deepspeed=$(from_caller "${1#*=}"); shift ;;
    --deepspeed) (($# >= 2)) || fail "--deepspeed needs a file, or none"; deepspeed=$(from_caller "$2"); shift 2 ;;
    --dry-run) dry_run=true; shift ;;
    *) flags+=("$1"); shift ;;
  esac
done
cd "$root"
# A shipped recipe by its name, such as joint.
shipped() { find "configs/$command" -name "$1.yaml" | sort | head -n 1; }
[[ -f $recipe || $recipe == *[./]* ]] || recipe=$(shipped "$recipe")
[[ -f $recipe ]] || fail "no recipe ${recipe:-of that name}"
# What a recipe says of one option at the left margin, without quotes and comment.
value_of() { sed -nE 's/^'"$1"':[[:space:]]*("([^"]*)"|'"'([^']*)'"'|([^[:space:]#]*)).*/\2\3\4/p' "$2"; }
# Its DeepSpeed file: its own, or that of the nearest recipe that it extends.
if [[ -z ${deepspeed+set} ]]; then
  deepspeed="" above=$recipe
  for _ in {1..20}; do
    if grep -q '^deepspeed:' "$above"; then deepspeed=$(value_of deepspeed "$above"); break; fi
    below=$(value_of extends "$above")
    [[ -n $below ]] || break
    if [[ $below == *.* ]]; then above=$(dirname "$above")/$below; else above=$(shipped "$below"); fi
    [[ -f $above ]] || fail "$recipe extends $below, which is not there"
  done
fi
case "$deepspeed" in none | null | Null | NULL | "~") deepspeed="" ;; esac

choose_gpus trains
processes=${NUM_PROCESSES:-$((NUM_GPUS > 0 ? NUM_GPUS : 1))}
whole_number NUM_PROCESSES "$processes"
((processes > 0)) || fail "NUM_PROCESSES must be at least 1"
((NUM_GPUS == 0 || processes == NUM_GPUS)) || fail \
  "NUM_PROCESSES=$processes on $NUM_GPUS GPU(s): there is one process for each, so leave it out and set NUM_GPUS alone"
nodes=${NNODES:-1}
whole_number NNODES "$nodes"
((nodes > 0)) || fail "NNODES must be at least 1"

variables=("CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES")
if ((NUM_GPUS == 0)); then
  # DeepSpeed has to be told before it is imported.
  variables+=(DS_ACCELERATOR=cpu)
  flags=(--use_cpu true "${flags[@]}")
fi
if [[ -n $deepspeed ]]; then
  variables+=(ACCELERATE_USE_DEEPSPEED=true)
fi
flags=(--deepspeed "$deepspeed" ${MODEL:+--model_name_or_path "$MODEL"} ${DATA:+--data_root "$DATA"}
  ${OUTPUT:+--output_dir "$OUTPUT"} "${flags[@]}")

# torchrun would give every process one thread; video decoding and the CPU's arithmetic can use more.
cores=$(nproc)
variables+=("OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 8 ? 8 : cores / processes > 0 ? cores / processes : 1))}"
  "TOKENIZERS_PARALLELISM=${TOKENIZERS_PARALLELISM:-false}")
# torch warns at every collective that DeepSpeed calls it by an older name; hundreds of lines would hide the progress.
variables+=("PYTHONWARNINGS=${PYTHONWARNINGS:-ignore::FutureWarning:torch.distributed.c10d_logger}")
# Where Python looks for a reward of the caller's own; the project's folder is where the run works.
paths=""
for folder in "$caller" "$(realpath "$(dirname "$recipe")")"; do
  [[ $folder == "$root" || $folder == "$root"/configs/* || :$paths: == *":$folder:"* ]] || paths+=${paths:+:}$folder
done
[[ -z $paths ]] || variables+=("PYTHONPATH=$paths${PYTHONPATH:+:$PYTHONPATH}")

if ((nodes > 1)); then
  [[ -n ${NODE_RANK:-} ]] || fail "set NODE_RANK: 0 on the first node, 1 on the next, ..."
  whole_number NODE_RANK "$NODE_RANK"
  ((NODE_RANK < nodes)) || fail "NODE_RANK=$NODE_RANK, but NNODES=$nodes: 0 to $((nodes - 1))"
  [[ -n ${MASTER_ADDR:-} ]] || fail "set MASTER_ADDR: the address of the first node"
  placement=(--nnodes "$nodes" --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
elif [[ -n ${MASTER_PORT:-} ]]; then
  placement=(--nnodes 1 --master_addr "${MASTER_ADDR:-localhost}" --master_port "$MASTER_PORT")
else
  placement=(--standalone) # picks a free port, so that two runs can share a machine
fi
if ((processes == 1 && nodes == 1)) && [[ -z $deepspeed ]]; then
  start=(.venv/bin/python -m videochat_r1.cli)
else
  ((NUM_GPUS == 0)) && flags=(--ddp_backend gloo "${flags[@]}") # the CPU's NCCL
  start=(.venv/bin/python -m videochat_r1.training.torchrun "${placement[@]}" --nproc_per_node "$processes" -m videochat_r1.cli)
fi
start=(env "${variables[@]}" "${start[@]}" "$command" --config "$recipe" "${flags[@]}")
if [[ $dry_run == true ]]; then
  printf '%q ' "${start[@]}"
  echo
  exit 0
fi
bash training_scripts/setup.sh
if ((NUM_GPUS > 0)); then
  .venv/bin/python -m videochat_r1.doctor.compiler || exit 2
fi
echo "launch: $(printf '%q ' "${start[@]}")"
exec "${start[@]}"
