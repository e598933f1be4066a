#!/usr/bin/env bash
# The study: what EMPIR's robustness owes to seeds, to precision and to the number of members (docs/study.md).
#
#   scripts/reproduce_study.sh [seeds|ensembles|epochs|members|precisions|defences|alexnet] [--data_dir=FOLDER] [FLAG...]
#
# FOLDER holds mnist and cifar-10-batches-bin. Without a part, all are made in this order. Weights and runs go to
# runs/study, records to results/study; those that are there are kept, and the same command goes on where it was
# stopped. --list names what is missing, --only='mnist-*-vote' makes only what fits, --kind=trainings only trains,
# --kind=table and --kind=suite only make one kind of evaluation, --scheduler=... shares evaluations among workers
# (docs/cluster.md). A training takes about 6 minutes on two cores, and there are 141; a suite takes 5 to 40. Those
# of the part defences, which attack each batch by PGD, take an hour and more, and there are six. The part
# alexnet makes CIFAR-10's images JPEGs and TFRecords first, and has three trainings of its own.
set -euo pipefail
part=
case ${1:-} in
  seeds | ensembles | epochs | members | precisions | defences | alexnet) part=$1; shift ;;
esac
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh
exec "$PYTHON" -m benchmarks.study ${part:+--part="$part"} "$@"
