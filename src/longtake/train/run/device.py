"""The device of a training process: its own GPU if the machine has one, else the CPU.

Clips and random numbers stay on the CPU, so that a run draws the same batches everywhere. Inputs of a network move to
the device of its weights, and outputs move back to the device of the inputs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # compute dtypes that a config may name


class Encodes(Protocol):
    """The encoder side of a VAE."""

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, T, H, W) to latents (B, C, F, h, w)."""


def process_device() -> torch.device:
    """Return this process's device: the GPU that torchrun's LOCAL_RANK counts, or the CPU.

    CUDA_VISIBLE_DEVICES="" selects the CPU on a machine with GPUs.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's weights."""
    return next(module.parameters()).device


def encoding(vae: Encodes) -> Callable[[Tensor], Tensor]:
    """Wrap a VAE on this process's device into a function from frames on the CPU to latents on the CPU."""
    return lambda frames: vae.encode(frames.to(process_device())).cpu()
