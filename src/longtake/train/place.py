"""Where a process trains: on a GPU of its own if the machine has one, else on the CPU.

Clips and all chance stay on the CPU, so that a run draws the same batches everywhere. What a network is asked goes to
where its weights are, and the answer comes back to where the question was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn


class Encodes(Protocol):
    """The part of a codec that is needed here."""

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B 3 T H W) to latents (B C F h w)."""


def place() -> torch.device:
    """The device of this process: the GPU that torchrun's LOCAL_RANK counts, or the CPU (also with CUDA_VISIBLE_DEVICES="")."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def at(module: nn.Module) -> torch.device:
    """Where the weights of a module are."""
    return next(module.parameters()).device


def encoding(codec: Encodes) -> Callable[[Tensor], Tensor]:
    """What a codec at this process's device makes of frames on the CPU, on the CPU."""
    return lambda frames: codec.encode(frames.to(place())).cpu()
