"""All noise arithmetic, for inference and training: level grids, staircases, mixing, lifting, and the noise itself.

A level is sigma of flow matching: x = (1 - level) * video + level * noise; 1 is pure noise, 0 is clean video.
Pure: no model, no files; tensors stay where they come from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Grid = Literal["linear", "skyreels", "diffusers", "quadratic", "terminal"]
GRIDS: tuple[Grid, ...] = ("linear", "skyreels", "diffusers", "quadratic", "terminal")


def shifted(level: Tensor, shift: float) -> Tensor:
    """Move levels towards noise: k s / (1 + (k - 1) s) (Esser et al. 2024, eq. 23)."""
    return shift * level / (1 + (shift - 1) * level)


def ramp(steps: int, shift: float = 1.0, grid: Grid = "linear") -> Tensor:
    """Levels before each of `steps` model calls, and 0 after the last. (steps + 1,) float64.

    linear: from 1 to 0. skyreels: the official SkyReels-V2/Wan grid, from 0.999 to 0.
    diffusers: its UniPC flow grid, from 1 to 0.001 with the first level lowered by 1e-6.
    quadratic: half of the steps down to 0.975, then a parabola (LTX-Video from 0.9.5 on).
    terminal: 1, 1 - 1/steps, ..., 1/steps, shifted and then stretched so that the last of them is 0.1 (LTX-Video
    before 0.9.5, whose shift is `token_shift`).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift must be a positive number, not {shift}")
    if grid == "quadratic":
        return shifted(quadratic(steps), shift)
    if grid == "terminal":
        return terminal(steps, shift)
    start, end = {"linear": (1.0, 0.0), "skyreels": (0.999, 0.0), "diffusers": (1.0, 0.001)}[grid]
    levels = shifted(torch.linspace(start, end, steps + 1, dtype=torch.float64), shift)
    levels[-1] = 0
    if grid == "diffusers":
        levels[0] -= 1e-6
    return levels


def listed(levels: str) -> Tensor:
    """Levels before each model call, told as numbers with commas between, and 0 after the last. (calls + 1,) float64.

    ValueError unless they fall, and lie in (0, 1].
    """
    try:
        numbers = [float(level) for level in levels.split(",")]
    except ValueError as error:
        raise ValueError(f"noise levels are numbers with commas between, such as 1,0.9,0.6, not {levels!r}") from error
    if numbers and numbers[-1] == 0:
        numbers.pop()
    if not numbers or not 0 < numbers[0] <= 1 or any(b >= a or b <= 0 for a, b in pairwise(numbers)):
        raise ValueError(f"noise levels must fall and lie in (0, 1], not {levels}")
    return torch.tensor([*numbers, 0.0], dtype=torch.float64)


def quadratic(steps: int, threshold: float = 0.025) -> Tensor:
    """Levels (steps + 1,) whose distance u from 1 grows evenly to `threshold` in half of the steps, then as a parabola.

    The parabola leaves the line without a bend: u(i) = t + t/L (i - L) + c (i - L)^2, with c such that u(steps) = 1.
    """
    line, rest = steps // 2, steps - steps // 2
    if not line:
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    i = torch.arange(steps + 1, dtype=torch.float64)
    bend = (1 - threshold - threshold * rest / line) / rest**2
    levels = 1 - threshold * i / line - bend * (i - line).clamp_min(0) ** 2
    levels[-1] = 0
    return levels


def terminal(steps: int, shift: float, end: float = 0.1) -> Tensor:
    """Levels (steps + 1,): 1 - i/steps shifted, then stretched away from 1 until the one before 0 is `end`.

    Reckoned as distances from 1, so that the enormous shifts of long videos lose nothing: the published float32
    formula gives NaN from 52 thousand tokens on.
    """
    level = 1 - torch.arange(steps, dtype=torch.float64) / steps
    away = (1 - level) / (1 + (shift - 1) * level)
    return torch.cat((1 - away * ((1 - end) / away[-1] if steps > 1 else 0), torch.zeros(1, dtype=torch.float64)))


def token_shift(tokens: int) -> float:
    """The shift of LTX-Video: e^mu with mu = 0.95 at 1024 tokens and 2.05 at 4096, on a line without end."""
    return math.exp(min(0.95 + (tokens - 1024) * (2.05 - 0.95) / (4096 - 1024), 700.0))


def staircase(ramp: Tensor, block: Tensor, calls: Tensor, lag: float | Fraction) -> Tensor:
    """Level of each frame before each call when block b starts at call floor(b * lag).

    ramp (N + 1,), block (F,) block number of each frame, calls (K,) -> (K, F). A block that has not started stands at
    ramp[0], a finished one at 0. With lag = ar_step this is the SkyReels-V2 timestep matrix (AR-Diffusion, 2025).
    """
    steps = len(ramp) - 1
    start = torch.tensor([math.floor(b * min(lag, steps)) for b in block.tolist()], dtype=torch.long)
    return ramp[(calls[:, None] - start).clamp(0, steps)]


def mix(video: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """(1 - level) * video + level * noise; level (F,) or (B, F) belongs to axis 2 of (B, C, F, H, W)."""
    level = per_frame(level, video)
    return (1 - level) * video + level * noise


def lift(x: Tensor, noise: Tensor, level: Tensor, target: Tensor) -> Tensor:
    """Take frames x (B, C, F, H, W) from `level` (F,) up to `target` (F,) with fresh noise. Equal levels change nothing.

    keep = (1 - target) / (1 - level) scales the video part; what noise is then missing is added, so that the variance
    of the noise is target squared.
    """
    keep = torch.where(level < 1, (1 - target) / (1 - level).clamp_min(1e-12), 1.0)
    add = (target**2 - (keep * level) ** 2).clamp_min(0).sqrt()
    lifted = per_frame(keep, x) * x + per_frame(add, x) * noise
    return torch.where(per_frame(target != level, x), lifted, x)


def per_frame(values: Tensor, x: Tensor) -> Tensor:
    """Shape values (F,) or (B, F) to broadcast over x (B, C, F, H, W), in its dtype and on its device."""
    if values.dtype != torch.bool:
        values = values.to(x.dtype)
    values = values.to(x.device)
    return values[:, None, :, None, None] if values.ndim == 2 else values[None, None, :, None, None]


# ---------------------------------------------------------------- the noise itself
@dataclass(frozen=True)
class Spot:
    """Where a piece of noise goes: enough to name it without knowing what was drawn before.

    frame: first output frame of the latent, counted from the start of the video. take, index: the take and the latent
    frame in it. draw: from the plan. call: the model call inside the window, for noise that is drawn anew at each call;
    for that of a stochastic step, the level it leads to in millionths, which names the step whatever the window.
    """

    purpose: Literal["start", "lift", "context", "guide", "step", "decode", "inject"]
    frame: int
    take: int
    index: int
    draw: int = 0
    call: int = 0


class Noise(Protocol):
    """Standard normal noise as a pure function of where it goes, so that resuming needs no generator state."""

    def __call__(self, spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
        """Noise for latents of shape (C, H, W) at the spots -> (B, C, F, H, W) float32 on the CPU."""


@dataclass(frozen=True)
class Keyed:
    """The default: counter-based (Philox), one key per latent frame, one seed per video of the batch."""

    seeds: tuple[int, ...] = (0,)

    def __call__(self, spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
        """See `Noise`. Equal spots get equal noise whatever the plan, the window or the call order."""
        return torch.stack([torch.stack([self._one(seed, spot, shape) for spot in spots], 1) for seed in self.seeds])

    @staticmethod
    def _one(seed: int, spot: Spot, shape: tuple[int, int, int]) -> Tensor:
        name = f"{seed}|{spot.purpose}|{spot.frame}|{spot.draw}|{spot.call}".encode()
        key = np.frombuffer(hashlib.blake2b(name, digest_size=16).digest(), dtype=np.uint64)
        return torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True)
class PerClip:
    """Published seeding: one draw of torch's CPU generator for a whole clip, seeded `factor * clip` (SVI: 42 * clip)."""

    length: int
    factor: int = 42
    first: int = 0

    def __call__(self, spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
        """See `Noise`. Only one video per batch; `length` is the clip in latent frames."""
        if any(spot.purpose != "start" for spot in spots):
            raise ValueError("noise per clip is made for plans that start every frame as noise; use keyed noise here")
        rng = torch.Generator().manual_seed(self.factor * (self.first + spots[0].take))
        channels, *size = shape
        clip = torch.randn((1, channels, self.length, *size), generator=rng)
        return clip[:, :, [spot.index for spot in spots]]


@dataclass
class Recorded:
    """Noise given beforehand, for parity with another implementation: {(purpose, take, index, draw, call): (B, C, H, W)}."""

    table: dict[tuple[str, int, int, int, int], Tensor]

    def __call__(self, spots: Sequence[Spot], shape: tuple[int, int, int]) -> Tensor:
        """See `Noise`. KeyError names a spot that was not recorded."""
        return torch.stack([self.table[(s.purpose, s.take, s.index, s.draw, s.call)] for s in spots], 2)
