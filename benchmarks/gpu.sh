#!/usr/bin/env bash
# All measurements that need a GPU, in less than ten minutes: one table for the default batches of 64, one for 256.
# Copy them into benchmarks/RESULTS.md.
#
#   pip install -r envs/requirements.txt
#   pip install --no-deps -r envs/requirements-benchmarks.txt    # optional: lightly, to compare with
#   benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/workflow"

python - <<'PYTHON'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("no CUDA device is visible to torch: run this on a machine with an NVIDIA GPU, or use benchmarks/training.py")
PYTHON

for batch_size in 64 256; do
    timeout 300 python benchmarks/training.py --config config/hsc_pdr3.yaml --batch-size "$batch_size" --steps 16 \
        --rounds 5 --workers 8 --embed 2048 --compile
done
