"""What the transformers of two families share: wide sums, gates, runs of equal labels, GELU, the feed-forward."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """x + change * gate, in float32 or better."""
    return torch.addcmul(wide(x), wide(change), gate).to(x.dtype)


def runs(labels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(label, start, stop) of every stretch of equal labels."""
    start = 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        yield label, start, stop
        start = stop


class TanhGelu(nn.Module):
    """GELU in its tanh form, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return nnf.gelu(x, approximate="tanh")
        twice = 2 * (2 / math.pi) ** 0.5  # 0.5 (1 + tanh(u)) = sigmoid(2 u), which a CPU computes three times faster
        return (x * x).mul_(0.044715 * twice).add_(twice).mul_(x).sigmoid_().mul_(x)


class Projection(nn.Module):
    """A linear layer under the name diffusers gives it."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.proj = nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, dim: int, hidden: int, out: int, act: nn.Module):
        super().__init__()
        self.net = nn.Sequential(Projection(dim, hidden), act, nn.Linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
