"""torch.compile for the blocks of a network: the operations between matrix products and attention become few kernels."""

from __future__ import annotations

from importlib.util import find_spec
from shutil import which

import torch
from torch import nn

from longtake.core.errors import InputError


class CompileError(InputError):
    """Compilation that this machine cannot do; the message names what is missing."""


def compile_blocks(blocks: nn.ModuleList, device: torch.device | str, backend: str = "inductor") -> None:
    """Compile every block for inputs of any size; the first call then takes from seconds to a minute.

    The output is equal up to rounding. CompileError names a missing compiler.
    """
    if backend == "inductor":
        _check_compiler(torch.device(device))
    for block in blocks:
        block.compile(dynamic=True, backend=backend)


def _check_compiler(device: torch.device) -> None:
    if device.type == "cpu" and which("g++") is None:
        raise CompileError("--compile on a CPU needs g++, which is not on the path: install it, or leave --compile out")
    if device.type == "cuda" and find_spec("triton") is None:
        raise CompileError("--compile on a GPU needs the package triton: install it, or leave --compile out")
