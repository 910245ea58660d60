"""How noise levels are drawn in training: one level per latent frame, in the patterns that plans use.

Pure functions of a generator. B videos, F latent frames; a level is sigma in [0, 1], 1 is pure noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.noise import shifted

HISTORY = (1, 2, 3, 5, 9)  # latents of clean history that windows carry; 5 is the usual overlap of 17 frames
HISTORY_WEIGHTS = (0.1, 0.15, 0.15, 0.4, 0.2)
TOUCH = 0.02  # the light noise that some plans put on history against drift


@dataclass(frozen=True)
class Mixture:
    """Shares of the three patterns of diffusion forcing; what is left over is split between stagger and independent."""

    history: float = 0.45
    equal: float = 0.35
    shift: float = 3.0

    def __post_init__(self) -> None:
        if min(self.history, self.equal) < 0 or self.history + self.equal > 1 + 1e-9:
            raise ValueError(f"shares {self.history} + {self.equal} must lie between 0 and 1")


def spread(rng: torch.Generator, count: int) -> Tensor:
    """Uniform numbers (count,) of [0, 1), one in each of `count` equal parts, in random order."""
    parts = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    return parts[torch.randperm(count, generator=rng)]


def draw_history(rng: torch.Generator, count: int, frames: int) -> Tensor:
    """How many latents of each video are history (count,): sizes that windows carry, always fewer than frames."""
    sizes = torch.tensor([size for size in HISTORY if size < frames])
    weights = torch.tensor(HISTORY_WEIGHTS[: len(sizes)])
    return sizes[torch.multinomial(weights, count, replacement=True, generator=rng)]


def history_levels(rng: torch.Generator, history: Tensor, frames: int, shift: float) -> Tensor:
    """Sliding windows (B, F): the first history[b] frames are clean or barely touched, the others share one level."""
    count = len(history)
    level = shifted(spread(rng, count), shift)[:, None].expand(count, frames)
    touch = TOUCH * (torch.rand(count, 1, generator=rng) < 0.3)
    return torch.where(torch.arange(frames) < history[:, None], torch.minimum(touch, level), level)


def equal_levels(rng: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """One level per video (B, F)."""
    return shifted(spread(rng, count), shift)[:, None].expand(count, frames)


def stagger_levels(rng: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """A staircase (B, F): levels rise along time, from 0 and up to 1 where the ramp ends; slope and place at random."""
    middle = spread(rng, count)[:, None] * (frames - 1)
    width = 2 + torch.rand(count, 1, generator=rng) * 2 * frames
    return shifted((0.5 + (torch.arange(frames) - middle) / width).clamp(0, 1), shift)


def independent_levels(rng: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """A level of its own for every frame (B, F)."""
    return shifted(torch.rand(count, frames, generator=rng), shift)


def patterns(rng: torch.Generator, count: int, mixture: Mixture) -> Tensor:
    """Which pattern each video follows (B,): 0 history, 1 equal, 2 stagger, 3 independent; shares met as nearly as
    whole videos allow."""
    u = spread(rng, count)
    rest = (1 - mixture.history - mixture.equal) / 2
    edges = torch.tensor([mixture.history, mixture.history + mixture.equal, 1 - rest])
    return torch.bucketize(u, edges, right=True)


def draw_levels(rng: torch.Generator, pattern: Tensor, history: Tensor, frames: int, shift: float) -> Tensor:
    """Levels (B, F) of videos that follow the given patterns; history (B,) is used by pattern 0 only."""
    count = len(pattern)
    kinds = torch.stack(
        (
            history_levels(rng, history, frames, shift),
            equal_levels(rng, count, frames, shift),
            stagger_levels(rng, count, frames, shift),
            independent_levels(rng, count, frames, shift),
        )
    )
    return kinds[pattern, torch.arange(count)]


def block_staircase(rng: torch.Generator, count: int, blocks: int, shift: float, steps: int = 12) -> Tensor:
    """Levels per block (B, blocks) at a random call of a plan in which block b starts at call b * lag.

    Each video draws its own lag from 1 to `steps`, and its call evenly from those at which some block is moving, plus a
    part of a call, so that all levels are met. With lag = steps one block moves at a time.
    """
    lag = torch.randint(1, steps + 1, (count, 1), generator=rng)
    calls = steps + lag * (blocks - 1)
    call = spread(rng, count)[:, None] * calls
    done = ((call - lag * torch.arange(blocks)) / steps).clamp(0, 1)
    return shifted(1 - done, shift)
