#!/usr/bin/env bash
# VideoChat-R1 on several nodes of a SLURM cluster: every node starts torchrun with the same recipe.
#
# Hardware     2 nodes of 4 GPUs of 80 GB: 8 processes with one prompt each, the recipe's 8 prompts an update.
#              16 GPUs need --prompts_per_step 16, and then a learning rate of your own choice.
# Hours        not measured
# Usage        MODEL=... DATA=... OUTPUT=... sbatch training_scripts/slurm_grpo_videochat_r1.sh [--flag value ...]
#              from the project's folder, which all nodes must see, as well as DATA and OUTPUT; `bash
#              training_scripts/setup.sh` beforehand on a node with a network. A job that runs out of time goes on from
#              its last checkpoint when it is submitted again with the same OUTPUT.
#SBATCH --job-name=videochat_r1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=72:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-29500} NNODES=$SLURM_NNODES NUM_GPUS=${SLURM_GPUS_ON_NODE:-4}
# One rank that fails ends the job instead of leaving the other node waiting.
srun --kill-on-bad-exit=1 bash -c \
  'NODE_RANK=$SLURM_NODEID exec bash training_scripts/grpo_videochat_r1.sh "$@"' grpo_videochat_r1 "$@"
