"""NaN and infinity in tensors, found by one pass over the memory: a sum is finite only if all of its numbers are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def is_finite(tensor: Tensor) -> bool:
    """Whether every element of a tensor is finite. Waits for the device; tensors on the meta device hold none.

    The sum alone decides for most tensors, at the speed of the memory. Only where it is not finite, since a number is not
    or the sum itself overflows, is every number looked at.
    """
    if tensor.is_meta or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.dtype in FLOAT8:  # which have no sum
        tensor = tensor.to(torch.bfloat16)
    with torch.inference_mode():
        return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def first_non_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None if all are finite."""
    return next((name for name, tensor in tensors if not is_finite(tensor)), None)


def non_finite_rows(tensor: Tensor) -> list[int]:
    """Return the numbers of the rows, along the first axis, that hold NaN or infinity."""
    return (~torch.isfinite(tensor).flatten(1).all(1)).nonzero()[:, 0].tolist()
