"""Random sigmas for training: one per latent frame, in the patterns that sampling strategies use.

Pure functions of a generator. B videos, F latent frames; sigma is in [0, 1], 1 is pure noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from longtake.core.sigmas import shifted, token_shift

HISTORY = (1, 2, 3, 5, 9)  # latent context frames of a window; 5 is the usual overlap of 17 frames
HISTORY_WEIGHTS = (0.1, 0.15, 0.15, 0.4, 0.2)
CONTEXT_NOISE = 0.02  # the sigma that some strategies give context frames against drift


class Pattern(IntEnum):
    """A pattern of the sigmas of a window."""

    HISTORY = 0  # clean or slightly noisy context frames, one sigma for the frames behind them
    EQUAL = 1  # one sigma for all frames
    STAGGER = 2  # sigmas that rise along time in a straight line
    INDEPENDENT = 3  # a sigma of its own for every frame
    FOPP = 4  # any sigmas that never fall along time, see fopp_sigmas


@dataclass(frozen=True)
class Mixture:
    """Shares of the sigma patterns of diffusion forcing, which add up to 1.

    history: clean or slightly noisy context, then one sigma for all new frames. equal: one sigma for all frames.
    stagger: a staircase. independent: a sigma of its own for each frame. fopp: frame-oriented probability propagation.
    shift: timestep shift of all sigmas.

    FoPP alone almost never draws equal sigmas, nor context frames followed by equal sigmas, which is what synchronous
    strategies show the network; `equal` and `history` are in the mixture for them.
    """

    history: float = 0.45
    equal: float = 0.35
    stagger: float = 0.1
    independent: float = 0.1
    fopp: float = 0.0
    shift: float = 3.0

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            given = ", ".join(f"{pattern.name.lower()} {share:g}" for pattern, share in zip(Pattern, self.shares))
            raise ValueError(f"the shares of the patterns must not be negative and must add up to 1, unlike {given}")

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares in the order of `Pattern`."""
        return (self.history, self.equal, self.stagger, self.independent, self.fopp)

    def patterns(self, generator: torch.Generator, count: int) -> Tensor:
        """Draw the `Pattern` of each video (B,): the shares are met as nearly as whole videos allow."""
        edges = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)[:-1].float()
        return torch.bucketize(spread(generator, count), edges, right=True)


def spread(generator: torch.Generator, count: int) -> Tensor:
    """Draw stratified uniform numbers (count,) of [0, 1), one in each of `count` equal parts, in random order."""
    parts = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return parts[torch.randperm(count, generator=generator)]


def draw_history(generator: torch.Generator, count: int, frames: int) -> Tensor:
    """Draw the number of context frames of each video (count,), always fewer than its latent frames."""
    sizes = torch.tensor([size for size in HISTORY if size < frames])
    weights = torch.tensor(HISTORY_WEIGHTS[: len(sizes)])
    return sizes[torch.multinomial(weights, count, replacement=True, generator=generator)]


def history_sigmas(generator: torch.Generator, history: Tensor, frames: int, shift: float) -> Tensor:
    """Draw sigmas of sliding windows (B, F): the first history[b] frames are clean or slightly noisy, the rest share one."""
    count = len(history)
    sigma = shifted(spread(generator, count), shift)[:, None].expand(count, frames)
    context = CONTEXT_NOISE * (torch.rand(count, 1, generator=generator) < 0.3)
    return torch.where(torch.arange(frames) < history[:, None], torch.minimum(context, sigma), sigma)


def equal_sigmas(generator: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """Draw one sigma per video (B, F)."""
    return shifted(spread(generator, count), shift)[:, None].expand(count, frames)


def staggered_sigmas(generator: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """Draw a staircase (B, F): sigmas rise along time from 0 to at most 1, with a random slope and position."""
    middle = spread(generator, count)[:, None] * (frames - 1)
    width = 2 + torch.rand(count, 1, generator=generator) * 2 * frames
    return shifted((0.5 + (torch.arange(frames) - middle) / width).clamp(0, 1), shift)


def independent_sigmas(generator: torch.Generator, count: int, frames: int, shift: float) -> Tensor:
    """Draw a sigma for every frame (B, F)."""
    return shifted(torch.rand(count, frames, generator=generator), shift)


def shifted_sigmas(generator: torch.Generator, count: int, shift: float) -> Tensor:
    """Draw sigmas (B,) uniformly, then shift them."""
    return shifted(spread(generator, count), shift)


def logit_normal_sigmas(generator: torch.Generator, count: int, mean: float, deviation: float, shift: float) -> Tensor:
    """Draw sigmas (B,) whose log(s / (1 - s)) is normal before the shift (Esser et al. 2024, eq. 19)."""
    normal = torch.special.ndtri(spread(generator, count).double().clamp(1e-7, 1 - 1e-7))
    return shifted(torch.sigmoid(mean + deviation * normal), shift).float()


def token_sigmas(generator: torch.Generator, count: int, tokens: int, uniform_share: float = 0.1) -> Tensor:
    """Draw sigmas (B,) of videos of so many tokens: the published logit-normal, corrected to reach low noise at any count.

    log(s / (1 - s)) is normal about mu, the log of `noise.token_shift`, with deviation 1. For a long video nearly all of
    its mass lies near 1, and low noise is never trained. So the range between the quantiles 0.5 % and 99.9 % is stretched
    to [0, 1], and a share `even` is drawn uniformly (as in the trainer of LTX-2). Distances from 1 are computed as
    multiples of e^-mu, so that no length loses precision.
    """
    mu = math.log(token_shift(tokens))
    normal = torch.special.ndtri(spread(generator, count).double().clamp(1e-7, 1 - 1e-7))

    def away(deviations: Tensor) -> Tensor:
        return 1 / (math.exp(-mu) + deviations.exp())  # e^mu (1 - s)

    low, high = away(torch.tensor([-2.5758293, 3.0902323], dtype=torch.float64))
    sigma = ((low - away(normal)) / (low - high)).abs().clamp(0, 1)  # values below the first quantile are mirrored
    choice, evenly_spaced = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    return torch.where(choice < uniform_share, evenly_spaced, sigma.float())


def fopp_steps(generator: torch.Generator, count: int, frames: int, steps: int) -> Tensor:
    """Draw steps 1..T that never fall along time (B, F), int64, by FoPP (SkyReels-V2, AR-Diffusion).

    A frame and its step are drawn uniformly; given them, all sequences are equally likely. The number of possible
    continuations gives each next step its exact weight: before frame i, step k has C(i + k - 2, i - 1) of them, and the
    weights of 1..k add up to C(i + k - 1, i), so a step is found by its share of that sum. Logarithms keep large numbers
    exact enough for any length.
    """
    anchor = torch.randint(1, frames + 1, (count,), generator=generator)
    draws = torch.rand(count, frames, generator=generator, dtype=torch.float64)
    found = torch.zeros(count, frames, dtype=torch.long)
    first = torch.randint(1, steps + 1, (count,), generator=generator)
    found[torch.arange(count), anchor - 1] = first
    for place in range(frames - 1, 0, -1):  # towards the start: frame `place`, at most the step of the next one
        at = place < anchor
        found[at, place - 1] = _below(place, found[at, place], draws[at, place - 1], steps)
    for place in range(2, frames + 1):  # towards the end, by symmetry
        at = place > anchor
        ahead = steps + 1 - found[at, place - 2]
        found[at, place - 1] = steps + 1 - _below(frames + 1 - place, ahead, draws[at, place - 1], steps)
    return found


def _below(place: int, most: Tensor, draw: Tensor, steps: int) -> Tensor:
    """Draw the step of frame `place`, none above `most`, each weighted by its number of continuations."""
    k = torch.arange(1, steps + 1, dtype=torch.float64)
    ways = torch.lgamma(place + k) - torch.lgamma(k) - math.lgamma(place + 1)  # log C(place + k - 1, place)
    return torch.minimum(torch.searchsorted(ways, draw.log() + ways[most - 1], right=False) + 1, most)


def fopp_sigmas(generator: torch.Generator, count: int, frames: int, shift: float, steps: int = 1000) -> Tensor:
    """Draw sigmas (B, F) by FoPP: step t of T is t / T before the shift."""
    return shifted(fopp_steps(generator, count, frames, steps).float() / steps, shift)


def draw_sigmas(generator: torch.Generator, pattern: Tensor, history: Tensor, frames: int, shift: float) -> Tensor:
    """Draw sigmas (B, F) of videos with patterns (B,); history (B,), context frames, is used by the first pattern only."""
    count = len(pattern)
    kinds = torch.stack(
        (
            history_sigmas(generator, history, frames, shift),
            equal_sigmas(generator, count, frames, shift),
            staggered_sigmas(generator, count, frames, shift),
            independent_sigmas(generator, count, frames, shift),
            fopp_sigmas(generator, count, frames, shift),
        )
    )
    return kinds[pattern, torch.arange(count)]


def block_staircase_sigmas(
    generator: torch.Generator, count: int, blocks: int, shift: float, steps: int = 12
) -> Tensor:
    """Draw sigmas per block (B, blocks) at a random step of a plan in which block b starts at step b * lag.

    Each video draws its own lag from 1 to `steps`, and its step uniformly from those at which some block is in progress,
    plus a fraction, so that all sigmas occur. With lag = steps the blocks are denoised one at a time.
    """
    lag = torch.randint(1, steps + 1, (count, 1), generator=generator)
    calls = steps + lag * (blocks - 1)
    call = spread(generator, count)[:, None] * calls
    done = ((call - lag * torch.arange(blocks)) / steps).clamp(0, 1)
    return shifted(1 - done, shift)
