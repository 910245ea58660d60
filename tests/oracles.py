"""The reference libraries, which warn when imported, and random weights for comparisons with them."""

import importlib
import inspect
import warnings

import torch
from torch import nn

from longtake.core.flat_config import to_flat


def oracle(library: str, name: str):
    """Return a class of a reference library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(library), name)


def twin(kind, net: nn.Module, **changes) -> nn.Module:
    """Return the reference network with the config and weights of `net`."""
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in to_flat(net.config).items()}
    config = {k: v for k, v in config.items() if k in inspect.signature(kind).parameters} | changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = kind(**config)
    other.load_state_dict(net.state_dict(), strict=True)
    return other.requires_grad_(False).eval()


@torch.no_grad()
def shuffled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give the network random weights everywhere, also where training would start from 0 or 1."""
    draw = torch.Generator().manual_seed(seed)
    for weight in net.parameters():
        fan = weight[0].numel() if weight.ndim > 1 and weight.shape[0] > 1 else 1
        noise = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
        weight.copy_(noise / fan**0.5 if fan > 1 else weight + 0.3 * noise)
    return net.requires_grad_(False).eval()


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the relative distance of two tensors."""
    assert a.shape == b.shape and a.norm() > 0
    return ((a - b).norm() / a.norm()).item()


def rand(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
