#!/usr/bin/env bash
# Sourced by the launch scripts: which GPUs a run takes. They define `fail MESSAGE`, which does not return.

# One GPU a line, as CUDA_VISIBLE_DEVICES names them: what it lists where it is set (empty: none), else all of nvidia-smi's.
# A name that is no number, GPU-... or MIG-... ends CUDA's list.
visible_gpus() {
  local total name names seen=""
  total=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  if [[ -z ${CUDA_VISIBLE_DEVICES+set} ]]; then
    ((total == 0)) || seq 0 $((total - 1))
    return
  fi
  IFS=, read -ra names <<<"${CUDA_VISIBLE_DEVICES//[[:space:]]/}"
  for name in ${names[@]+"${names[@]}"}; do
    [[ $name =~ ^([0-9]+$|GPU-|MIG-) ]] || break
    if [[ $name =~ ^[0-9]+$ ]] && ((total > 0 && 10#$name >= total)); then
      fail "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES names GPU $name, but this node has $total: 0 to $((total - 1))"
    fi
    [[ ,$seen == *",$name,"* ]] && fail "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES names $name twice"
    seen+=$name,
    echo "$name"
  done
}

# Sets NUM_GPUS (default: all that are visible) and hides the others, so that one process never takes several. What a
# machine without nvidia-smi has is not known: then as many are taken as NUM_GPUS says.
choose_gpus() {
  local listed visible=()
  listed=$(visible_gpus) || exit $?
  [[ -z $listed ]] || mapfile -t visible <<<"$listed"
  if [[ -z ${NUM_GPUS:-} ]]; then
    NUM_GPUS=${#visible[@]}
    ((NUM_GPUS > 0)) || fail "no GPU was found (${CUDA_VISIBLE_DEVICES+CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES'; }nvidia-smi -L lists them); NUM_GPUS=0 ${1:-runs} on the CPU"
  fi
  [[ $NUM_GPUS =~ ^(0|[1-9][0-9]{0,4})$ ]] || fail "NUM_GPUS must be a whole number, not '$NUM_GPUS'"
  if ((NUM_GPUS == 0)); then
    export CUDA_VISIBLE_DEVICES=""
    return
  fi
  if ((${#visible[@]} == 0)) && [[ -z ${CUDA_VISIBLE_DEVICES+set} ]] && ! command -v nvidia-smi >/dev/null; then
    mapfile -t visible < <(seq 0 $((NUM_GPUS - 1)))
  fi
  ((NUM_GPUS <= ${#visible[@]})) || fail \
    "NUM_GPUS=$NUM_GPUS, but ${#visible[@]} can be seen here${CUDA_VISIBLE_DEVICES+ (CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES')}"
  CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${visible[*]:0:NUM_GPUS}")
  export CUDA_VISIBLE_DEVICES
}
