"""Profiling: bytes of living tensors, and floating-point operations, counted while code runs.

Works on PyTorch's meta device, where tensors have shapes but no memory, and on any other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryTracker(TorchDispatchMode):
    """Counts bytes of new tensors on some kinds of device. now: alive; most: at the worst moment.

    without: tensors that were there before, and do not count. Memory that a kernel needs inside itself is not seen.
    """

    def __init__(self, kinds: Iterable[str], without: Iterable[Tensor] = ()):
        super().__init__()
        self.kinds, self.now, self.most = set(kinds), 0, 0
        self.alive: dict[int, Any] = {}
        for tensor in without:
            self._enter(tensor, counted=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type in self.kinds:
                self._enter(leaf)
        return out

    def restart(self) -> None:
        """Reset the maximum to what is alive now."""
        self.most = self.now

    def _enter(self, tensor: Tensor, counted: bool = True) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if counted else 0
        if key in self.alive:
            return
        self.now += size
        self.most = max(self.most, self.now)
        self.alive[key] = weakref.ref(storage, lambda _: self._leave(key, size))

    def _leave(self, key: int, size: int) -> None:
        del self.alive[key]
        self.now -= size


class FlopCounter(TorchFunctionMode):
    """Counts the floating-point operations of linear layers, convolutions and attention: two for a product and its sum.

    Attention on the meta device gives a tensor of the right shape, as kernels do that hold no table of all pairs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nnf.scaled_dot_product_attention:
            q, k, v = args[:3]
            self.flops += 2 * q.numel() * k.shape[-2] + 2 * q.shape[:-1].numel() * v.shape[-1] * k.shape[-2]
            if q.device.type == "meta":
                return q.new_empty(*q.shape[:-3], q.shape[-2], q.shape[-3], v.shape[-1]).transpose(-3, -2)
        out = func(*args, **(kwargs or {}))
        if func is nnf.linear:
            self.flops += 2 * out.numel() * args[0].shape[-1]
        elif func in (torch.conv2d, torch.conv3d):
            self.flops += 2 * out.numel() * args[1][0].numel()
        return out


def on_meta(make: Callable[[], nn.Module], dtype: torch.dtype) -> Any:
    """Make a network on the meta device: shapes without weights."""
    with torch.device("meta"):
        return make().to(dtype).requires_grad_(False).eval()


def size_of(net: nn.Module) -> int:
    """Count the bytes of the parameters of a network."""
    return sum(weight.numel() * weight.element_size() for weight in net.parameters())
