#!/usr/bin/env bash
# Compute an evaluation on the nodes of one SLURM job: a Dask scheduler, workers, and the command.
#
#   sbatch --ntasks=64 scripts/slurm_workers.sh robustness --dataset=cifar10 --data_dir=DATA --out=RUN
#
# --ntasks is the number of workers, each with as many threads as --cpus-per-task says. The scheduler and the
# command run on the job's first node. A job that failed, was preempted or ran out of time goes on with the same
# command (sbatch --requeue does that). The folders must be seen by all nodes at the same paths. Change the lines
# below to your cluster's partition, time limit and memory.
#SBATCH --job-name=empir
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
# SLURM runs a copy of this script, so the checkout is where sbatch was called, unless EMPIR_ROOT says otherwise.
cd "${EMPIR_ROOT:-${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}}"
if [ $# -eq 0 ] || [ "$1" = --help ]; then
  sed -n '2,/^#SBATCH/s/^# \{0,1\}//p' scripts/slurm_workers.sh
  exit 0
fi
. scripts/python.sh
export DASK_LOGGING__DISTRIBUTED=${DASK_LOGGING__DISTRIBUTED:-error} # info tells of every worker

# The address that other nodes reach this one at. Whoever can connect to it can run code as you (docs/cluster.md):
# take that of a private network, by --interface=NAME in place of --host, or TLS.
host=${EMPIR_HOST:-$(hostname -f)}
folder=$(mktemp -d "$PWD/.scheduler-XXXXXX")
file=$folder/scheduler.json
"$PYTHON" -m distributed.cli.dask_scheduler --host="$host" --port=0 --dashboard-address=localhost:0 \
  --scheduler-file="$file" &
scheduler=$!
trap 'kill "$scheduler" ${workers:+"$workers"} 2>/dev/null || true; rm -rf "$folder"' EXIT
while [ ! -s "$file" ]; do
  kill -0 "$scheduler" || { echo "error: the scheduler did not start" >&2; exit 2; }
  sleep 1
done
srun "$PYTHON" -m distributed.cli.dask_worker --scheduler-file="$file" --nthreads=1 --memory-limit=0 \
  --local-directory="${TMPDIR:-/tmp}" --no-dashboard &
workers=$!
resume=()
if [ "$1" = attack ]; then resume=(--resume); fi # the other commands always go on
"$PYTHON" -m empir "$@" ${resume[@]+"${resume[@]}"} --noprogress --num_threads="${SLURM_CPUS_PER_TASK:-1}" \
  --scheduler="$file"
