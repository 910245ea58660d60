"""Layers and functions that the transformers of several families share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from longtake.core.errors import SettingsError


def wide(x: Tensor) -> Tensor:
    """Return x in at least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def gated(x: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    """Compute x + change * gate in float32 or better."""
    return torch.addcmul(wide(x), wide(change), gate).to(x.dtype)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate neighbouring pairs of channels by the angle of their position (RoPE), in float32 or better.

    x: (..., D). rope: cosine and sine (..., D/2, 2), broadcast over x.
    """
    pairs = wide(x).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # inductor generates no code for complex numbers, which are otherwise fastest
        (a, b), (cos, sin) = pairs.unbind(-1), rope.unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)
    rotated = torch.view_as_complex(pairs) * torch.view_as_complex(rope)
    return torch.view_as_real(rotated).flatten(-2).to(x.dtype)


def runs(labels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (label, start, stop) of every stretch of equal labels."""
    start = 0
    for label, group in groupby(labels):
        stop = start + len(list(group))
        yield label, start, stop
        start = stop


@dataclass(frozen=True)
class Span:
    """A stretch [start, stop) of a step, and the stretches of the step that it attends to, besides all cached frames."""

    start: int
    stop: int
    attends: tuple[tuple[int, int], ...]

    def times(self, size: int) -> Span:
        """Return the same span in units that are `size` times smaller."""
        return Span(self.start * size, self.stop * size, tuple((a * size, b * size) for a, b in self.attends))


def check_text(text: Tensor, width: int) -> Tensor:
    """Return text embeddings (B, L, D). SettingsError unless D is what the network takes."""
    if text.shape[-1] != width:
        raise SettingsError(
            f"prompt embeddings of the shape {tuple(text.shape)} are given, but this model takes (prompts, L, {width}): take "
            "them from encode_prompt of this pipeline"
        )
    return text


class TanhGelu(nn.Module):
    """The tanh approximation of GELU, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return nnf.gelu(x, approximate="tanh")
        twice = 2 * (2 / math.pi) ** 0.5  # 0.5 (1 + tanh(u)) = sigmoid(2 u), which a CPU computes three times faster
        return (x * x).mul_(0.044715 * twice).add_(twice).mul_(x).sigmoid_().mul_(x)


class Projection(nn.Module):
    """A linear layer with the name of diffusers."""

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.proj = nn.Linear(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class FeedForward(nn.Module):
    """A feed-forward layer: linear, activation, linear."""

    def __init__(self, dim: int, hidden: int, out: int, act: nn.Module):
        super().__init__()
        self.net = nn.Sequential(Projection(dim, hidden), act, nn.Linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
