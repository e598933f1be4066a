#!/usr/bin/env bash
# From a fresh checkout to the MNIST table on the embedded sample, without a download of data:
# the baseline and the EMPIR ensemble of checkpoints/mnist under CW, FGSM, BIM and PGD at the
# paper's parameters. FGSM attacks all 1,000 embedded images, the others the first 300.
# Started again it continues where it stopped; rm -r runs/quickstart starts over.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
scripts/setup.sh
exec .venv/bin/python -m empir reproduce --dataset=mnist --sample --nb_samples=1000 \
  --slow_samples=300 --out=runs/quickstart "$@"
