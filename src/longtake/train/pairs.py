"""Durations and sizes in one run: clips of about as many tokens go into a batch, which a few dropped tokens make equal.

A pair is a duration and a size. Tokens are dropped rather than padded or packed, 0 to 20 % of each clip, and those that
are kept stand where they stood (LTX-Video, section on training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, frames_of_seconds, latents_of_frames


@dataclass(frozen=True)
class Pair:
    """Clips of so many frames of height x width pixels; a token stands for `stride` frames of scale x scale pixels."""

    frames: int
    height: int
    width: int
    stride: int
    scale: int

    def __post_init__(self) -> None:
        if self.height % self.scale or self.width % self.scale or min(self.height, self.width) < self.scale:
            raise ValueError(f"frames of {self.height} x {self.width} are not whole tokens of {self.scale} pixels")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return latents_of_frames(self.frames, self.stride), self.height // self.scale, self.width // self.scale

    @property
    def tokens(self) -> int:
        """Of a whole clip."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{self.frames}x{self.height}x{self.width}"


def pairs(seconds: Sequence[float], sizes: Sequence[Sequence[int]], stride: int, scale: int, fps: float) -> list[Pair]:
    """Every duration at every size (height, width); clips are the next 1 + stride * k frames long."""
    latents = [latents_of_frames(frames_of_seconds(each, fps), stride) for each in seconds]
    return [Pair(frames_of_latents(f, stride), int(h), int(w), stride, scale) for f in latents for h, w in sizes]


def grouped(found: Sequence[Pair], most: float) -> list[list[Pair]]:
    """Pairs that go into one batch: from the longest down, those of a group lack at most a share `most` of its tokens."""
    groups: list[list[Pair]] = []
    for pair in sorted(found, key=lambda each: -each.tokens):
        if groups and pair.tokens >= least(groups[-1][0].tokens, most):
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups


def least(tokens: int, most: float) -> int:
    """The fewest tokens that may be kept of a clip, if a share `most` of them may go."""
    return math.ceil(tokens * (1 - most) - 1e-9)


def draw_kept(rng: torch.Generator, group: Sequence[Pair], most: float) -> int:
    """How many tokens every clip of a batch keeps: evenly from the fewest that its longest may keep to all of its shortest."""
    low, high = least(max(pair.tokens for pair in group), most), min(pair.tokens for pair in group)
    return int(torch.randint(low, high + 1, (), generator=rng))


def draw_tokens(rng: torch.Generator, tokens: int, kept: int) -> Tensor:
    """Which tokens of a clip stay (kept,): every set as likely, in order."""
    return torch.randperm(tokens, generator=rng)[:kept].sort().values
