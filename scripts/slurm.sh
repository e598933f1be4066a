#!/usr/bin/env bash
# Compute the shards of an evaluation as a job array of SLURM, and merge them when all are done.
#
#   sbatch --array=1-16 scripts/slurm.sh attack --dataset=mnist --data_dir=DATA --members=fp:CHECKPOINT --attack=pgd --out=RUN
#   sbatch --dependency=afterok:JOB scripts/slurm.sh merge RUN
#
# The first line runs `empir attack ... --shard=i/16` for each i, with --out=RUN/shard-i; JOB is the number that it
# prints. The second makes RUN/whole of them. A task that failed or was preempted goes on with the same command
# (sbatch --requeue does that). The folders must be seen by all nodes at the same paths. Change the lines below to your
# cluster's partition, time limit and memory; each task takes as many threads as it has processors.
#SBATCH --job-name=empir
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.log
set -euo pipefail
# SLURM runs a copy of this script, so the checkout is where sbatch was called, unless EMPIR_ROOT says otherwise.
cd "${EMPIR_ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}}"
if [ $# -eq 0 ] || [ "$1" = --help ]; then
  sed -n '2,/^#SBATCH/s/^# \{0,1\}//p' scripts/slurm.sh
  exit 0
fi
. scripts/python.sh

if [ "$1" = merge ]; then
  exec "$PYTHON" -m empir merge "$2"/shard-* --out="$2/whole"
fi

out=
words=()
for word in "$@"; do
  case $word in
    --out=*) out=${word#*=} ;;
    *) words+=("$word") ;;
  esac
done
[ -n "$out" ] || { echo "error: --out=FOLDER is missing" >&2; exit 2; }
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || { echo "error: submit it by sbatch --array=1-COUNT" >&2; exit 2; }
resume=()
if [ "$1" = attack ]; then resume=(--resume); fi # the other commands always go on
exec "$PYTHON" -m empir "${words[@]}" ${resume[@]+"${resume[@]}"} --noprogress \
  --num_threads="${SLURM_CPUS_PER_TASK:-1}" \
  --shard="$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_MAX:-$SLURM_ARRAY_TASK_COUNT}" --out="$out/shard-$SLURM_ARRAY_TASK_ID"
