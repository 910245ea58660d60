"""The published speeds of GPUs, from which an estimate computes the time of a run."""

from __future__ import annotations

GPUS = {"RTX 4090": 165e12, "A100": 312e12, "H100": 989e12}  # operations per second of dense bf16, as published
SHARE = 0.5  # share of the published rate that good kernels reach
