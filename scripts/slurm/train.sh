#!/usr/bin/env bash
# One training as a Slurm job that is queued again before its time is over:
#   sbatch --gpus=1 --time=4:00:00 scripts/slurm/train.sh experiment=camvid/lraspp_lite0 data.root=DIR
#   sbatch --gpus=4 --ntasks-per-node=4 --time=4:00:00 scripts/slurm/train.sh trainer=ddp trainer.devices=4 ...
# The words are those of src.train; the same words continue the run, so that `scontrol requeue` is all it needs.
#SBATCH --job-name=streetseg
#SBATCH --cpus-per-task=8
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
# srun hands the signal to the training, and its status back to this script.
${LAUNCH:-srun} "${PYTHON:-.venv/bin/python}" -m src.train "$@"
status=$?
if [ "$status" -eq 138 ]; then # not 143, which is also the status after scancel
	scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
