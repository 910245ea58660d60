"""How noise levels are drawn in training: one level per latent frame, in the patterns that plans use.

Pure functions of a generator. B videos, F latent frames; a level is sigma in [0, 1], 1 is pure noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from longtake.noise import shifted, token_shift

HISTORY = (1, 2, 3, 5, 9)  # latents of clean history that windows carry; 5 is the usual overlap of 17 frames
HISTORY_WEIGHTS = (0.1, 0.15, 0.15, 0.4, 0.2)
TOUCH = 0.02  # the light noise that some plans put on history against drift


class Pattern(IntEnum):
    """How the levels of a window hang together."""

    HISTORY = 0  # clean or lightly touched history, one level behind it
    EQUAL = 1  # one level for all frames
    STAGGER = 2  # levels that rise along time in a straight line
    INDEPENDENT = 3  # every frame its own
    FOPP = 4  # any that never fall along time, see fopp_levels


@dataclass(frozen=True)
class Mixture:
    """Shares of the patterns of diffusion forcing (they add up to 1), and the shift of all levels.

    FoPP alone as good as never draws equal levels, nor history with equal levels behind it, which is what synchronous
    plans show the network: what serves them is in the mixture for that.
    """

    history: float = 0.45
    equal: float = 0.35
    stagger: float = 0.1
    independent: float = 0.1
    fopp: float = 0.0
    shift: float = 3.0

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            told = ", ".join(f"{pattern.name.lower()} {share:g}" for pattern, share in zip(Pattern, self.shares))
            raise ValueError(f"shares of patterns are none below 0 and add up to 1, unlike {told}")

    @property
    def shares(self) -> tuple[float, ...]:
        """In the order of `Pattern`."""
        return (self.history, self.equal, self.stagger, self.independent, self.fopp)

    def patterns(self, rng: torch.Generator, count: int) -> Tensor:
        """Which `Pattern` each video follows (B,): shares met as nearly as whole videos allow."""
        edges = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)[:-1].float()
        return torch.bucketize(spread(rng, count), edges, right=True)


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


def shifted_levels(rng: torch.Generator, count: int, shift: float) -> Tensor:
    """Levels (B,) drawn evenly, then shifted."""
    return shifted(spread(rng, count), shift)


def logit_normal(rng: torch.Generator, count: int, mean: float, deviation: float, shift: float) -> Tensor:
    """Levels (B,) whose log(s / (1 - s)) is normal before they are shifted (Esser et al. 2024, eq. 19)."""
    normal = torch.special.ndtri(spread(rng, count).double().clamp(1e-7, 1 - 1e-7))
    return shifted(torch.sigmoid(mean + deviation * normal), shift).float()


def token_levels(rng: torch.Generator, count: int, tokens: int, even: float = 0.1) -> Tensor:
    """Levels (B,) of videos of so many tokens: the published logit-normal, mended so that low noise is met at any count.

    log(s / (1 - s)) is normal about mu, the log of `noise.token_shift`, with deviation 1. Of a long video nearly all
    mass then lies near 1, and low noise is never trained. So what lies between the quantiles 0.5 % and 99.9 % is
    stretched over [0, 1], and a share `even` is drawn evenly (as in the trainer of LTX-2). Distances from 1 are reckoned
    as multiples of e^-mu, so that no length loses them.
    """
    mu = math.log(token_shift(tokens))
    normal = torch.special.ndtri(spread(rng, count).double().clamp(1e-7, 1 - 1e-7))

    def away(deviations: Tensor) -> Tensor:
        return 1 / (math.exp(-mu) + deviations.exp())  # e^mu (1 - s)

    low, high = away(torch.tensor([-2.5758293, 3.0902323], dtype=torch.float64))
    level = ((low - away(normal)) / (low - high)).abs().clamp(0, 1)  # what lies below the first quantile is mirrored
    choice, evenly = torch.rand(count, generator=rng), torch.rand(count, generator=rng)
    return torch.where(choice < even, evenly, level.float())


def fopp_steps(rng: torch.Generator, count: int, frames: int, steps: int) -> Tensor:
    """FoPP (SkyReels-V2, AR-Diffusion): steps 1..T that never fall along time (B, F), int64.

    A frame and its step are drawn evenly; given them, all sequences are equally likely. The number of ways to go on
    gives each next step its exact weight: before frame i, step k has C(i + k - 2, i - 1) of them, and the weights of
    1..k add up to C(i + k - 1, i), so a step is found by its share of that sum. Logarithms keep large numbers exact
    enough for any length.
    """
    anchor = torch.randint(1, frames + 1, (count,), generator=rng)
    draws = torch.rand(count, frames, generator=rng, dtype=torch.float64)
    found = torch.zeros(count, frames, dtype=torch.long)
    first = torch.randint(1, steps + 1, (count,), generator=rng)
    found[torch.arange(count), anchor - 1] = first
    for place in range(frames - 1, 0, -1):  # towards the start: frame `place`, at most the step of the next one
        at = place < anchor
        found[at, place - 1] = _below(place, found[at, place], draws[at, place - 1], steps)
    for place in range(2, frames + 1):  # towards the end, which is the same seen from the other side
        at = place > anchor
        ahead = steps + 1 - found[at, place - 2]
        found[at, place - 1] = steps + 1 - _below(frames + 1 - place, ahead, draws[at, place - 1], steps)
    return found


def _below(place: int, most: Tensor, draw: Tensor, steps: int) -> Tensor:
    """Steps of the frame with `place` - 1 frames before it, none above `most`, each as likely as its ways to go on."""
    k = torch.arange(1, steps + 1, dtype=torch.float64)
    ways = torch.lgamma(place + k) - torch.lgamma(k) - math.lgamma(place + 1)  # log C(place + k - 1, place)
    return torch.minimum(torch.searchsorted(ways, draw.log() + ways[most - 1], right=False) + 1, most)


def fopp_levels(rng: torch.Generator, count: int, frames: int, shift: float, steps: int = 1000) -> Tensor:
    """Levels (B, F) of FoPP: step t of T is t / T before the shift."""
    return shifted(fopp_steps(rng, count, frames, steps).float() / steps, shift)


def draw_levels(rng: torch.Generator, pattern: Tensor, history: Tensor, frames: int, shift: float) -> Tensor:
    """Levels (B, F) of videos that follow the given patterns (B,); history (B,) is used by the first of them only."""
    count = len(pattern)
    kinds = torch.stack(
        (
            history_levels(rng, history, frames, shift),
            equal_levels(rng, count, frames, shift),
            stagger_levels(rng, count, frames, shift),
            independent_levels(rng, count, frames, shift),
            fopp_levels(rng, count, frames, shift),
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
