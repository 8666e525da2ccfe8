#!/bin/bash
# mid-train on 2 nodes of 8 GPUs:  sbatch experiments/scale/slurm.sh --config experiments/olmo2_1b.yaml \
#   --config baselines/remit.yaml --config experiments/scale/zero2.yaml
# SLURM warns with SIGUSR1 two minutes before the time limit; the run saves, exits with 75, and is queued again.
#SBATCH --job-name=remit_lit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

srun python -m remit_lit fit "$@" \
  --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" --ckpt_path=last
code=$?
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
