#!/usr/bin/env bash
# VideoChat-R1 on several nodes of a SLURM cluster: every node starts torchrun with the same recipe.
#
# Hardware     2 nodes of 4 GPUs of 80 GB: 8 processes with one prompt each, the recipe's 8 prompts an update.
#              16 GPUs need --prompts_per_step 16, and then a learning rate of your own choice.
# Hours        not measured
# Usage        MODEL=... DATA=... OUTPUT=... sbatch [--nodes=1 ...] training_scripts/slurm_grpo_videochat_r1.sh [--flag value ...]
#              from the project's folder, which all nodes must see, as well as MODEL, DATA and OUTPUT; `bash
#              training_scripts/setup.sh` beforehand on a node with a network. A job that is requeued (a node failed, or was
#              wanted for another job) goes on from its last checkpoint, and so does one that ran out of time when it is submitted
#              again with the same OUTPUT.
#SBATCH --job-name=videochat_r1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=72:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
# SLURM runs a copy of this file, which lies elsewhere.
cd "${SLURM_SUBMIT_DIR:-.}"
if [[ ! -f training_scripts/launch.sh ]]; then
  echo "slurm: error: $PWD is not the project's folder; submit from there" >&2
  exit 2
fi
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A port of the job's own, as two jobs may share a node.
export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))} NNODES=$SLURM_JOB_NUM_NODES
# A step does not take over --cpus-per-task by itself, and would run on one core. A node that fails ends the job instead of
# leaving the others waiting. Each node counts its own GPUs.
srun --nodes="$NNODES" --ntasks="$NNODES" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  bash -c 'NODE_RANK=$SLURM_NODEID exec bash training_scripts/grpo_videochat_r1.sh "$@"' grpo_videochat_r1 "$@"
