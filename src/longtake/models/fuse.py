"""torch.compile for a network: what lies between its matrix products and attentions becomes few kernels."""

from __future__ import annotations

from importlib.util import find_spec
from shutil import which

import torch
from torch import nn


class CompileError(ValueError):
    """Compilation that this machine cannot do; the message says what is missing."""


def fuse(blocks: nn.ModuleList, device: torch.device | str, backend: str = "inductor") -> None:
    """Compile every block for tensors of any size; the first call of a block then takes from seconds to a minute.

    The video is the same up to rounding. CompileError says what is missing.
    """
    if backend == "inductor":
        _check(torch.device(device))
    for block in blocks:
        block.compile(dynamic=True, backend=backend)


def _check(device: torch.device) -> None:
    if device.type == "cpu" and which("g++") is None:
        raise CompileError("compiling for a CPU needs g++, which is not on the path: install it, or leave compile out")
    if device.type == "cuda" and find_spec("triton") is None:
        raise CompileError("compiling for a GPU needs the package triton: install it, or leave compile out")
