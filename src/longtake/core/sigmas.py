"""Sigmas: the noise levels through which a frame is denoised, as schedules and as staircases.

sigma of flow matching: x = (1 - sigma) * video + sigma * noise; 1 is pure noise, 0 is clean video.
The module imports without torch, so that the options of a strategy can be read in an instant.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from longtake.core.errors import PlanError

if TYPE_CHECKING:
    from torch import Tensor

SigmaSpacing = Literal["linear", "skyreels", "diffusers", "quadratic", "terminal"]
SIGMA_SPACINGS: tuple[SigmaSpacing, ...] = get_args(SigmaSpacing)
LEAST_SHIFT = 0.001  # below, all steps but one are at sigma 0; LTX-Video itself shifts long windows by 1e6 and more
MOST_STEPS = 10_000  # the table of a window holds a row for each


@dataclass(frozen=True)
class SigmaSchedule:
    """The sigmas of a frame on its way from noise to video: a number of steps with their spacing, or a list.

    steps: model calls that denoise a frame.
    shift: above 1 spends more of the steps at high noise.
    sigma_spacing: how the sigmas are spaced: linear; skyreels, as in the SkyReels-V2 and Wan code; diffusers, as in its
    UniPC scheduler; quadratic or terminal, as in LTX-Video from and before 0.9.5.
    sigmas: the sigma before each step, such as 1,0.99,0.9,0.7, instead of steps, shift and sigma_spacing.
    """

    steps: int = 30
    shift: float = 3.0
    sigma_spacing: SigmaSpacing = "linear"
    sigmas: str = ""

    def __post_init__(self):
        if self.sigma_spacing not in SIGMA_SPACINGS:
            raise PlanError(f"--sigma-spacing is one of {', '.join(SIGMA_SPACINGS)}, not {self.sigma_spacing!r}")
        if not 1 <= self.steps <= MOST_STEPS:
            raise PlanError(f"--steps must be at least 1 and at most {MOST_STEPS}, not {self.steps}")
        if not LEAST_SHIFT <= self.shift < math.inf:
            raise PlanError(f"--shift must be a finite number from {LEAST_SHIFT} on, not {self.shift:g}")
        if self.sigmas:
            parse_sigmas(self.sigmas)


DEFAULT_SCHEDULE = SigmaSchedule()


def sigmas_of(schedule: SigmaSchedule) -> Tensor:
    """Return the sigma before each step, and 0 after the last. (steps + 1,) float64."""
    if not schedule.sigmas:
        return sigma_schedule(schedule.steps, schedule.shift, schedule.sigma_spacing)
    import torch

    return torch.tensor([*parse_sigmas(schedule.sigmas), 0.0], dtype=torch.float64)


def parse_sigmas(text: str) -> list[float]:
    """Read the sigmas before each step from numbers with commas between. A 0 at the end may be left out.

    Raise PlanError unless they fall and lie in (0, 1].
    """
    try:
        numbers = [float(sigma) for sigma in text.split(",")]
    except ValueError as error:
        raise PlanError(f"--sigmas takes numbers with commas between, such as 1,0.9,0.6, not {text!r}") from error
    if numbers and numbers[-1] == 0:
        numbers.pop()
    if not numbers or not 0 < numbers[0] <= 1 or not all(0 < b < a for a, b in pairwise(numbers)):
        raise PlanError(f"--sigmas must fall and lie in (0, 1], not {text}")
    return numbers


def sigma_schedule(steps: int, shift: float = 1.0, sigma_spacing: SigmaSpacing = "linear") -> Tensor:
    """Return the sigma before each of `steps` steps, and 0 after the last. (steps + 1,) float64.

    linear: from 1 to 0. skyreels: the official SkyReels-V2 and Wan schedule, from 0.999 to 0.
    diffusers: its UniPC flow schedule, from 1 to 0.001 with the first sigma lowered by 1e-6.
    quadratic: half of the steps down to 0.975, then a parabola (LTX-Video from 0.9.5 on).
    terminal: 1, 1 - 1/steps, ..., 1/steps, shifted and then stretched so that the last of them is 0.1 (LTX-Video
    before 0.9.5, whose shift is `token_shift`).
    """
    import torch

    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be a positive number, not {shift}")
    shift = float(min(shift, sys.float_info.max))
    if sigma_spacing == "quadratic":
        return shifted(quadratic(steps), shift)
    if sigma_spacing == "terminal":
        return terminal(steps, shift)
    start, end = {"linear": (1.0, 0.0), "skyreels": (0.999, 0.0), "diffusers": (1.0, 0.001)}[sigma_spacing]
    sigmas = shifted(torch.linspace(start, end, steps + 1, dtype=torch.float64), shift)
    sigmas[-1] = 0
    if sigma_spacing == "diffusers":
        sigmas[0] -= 1e-6
    return sigmas


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Move sigmas towards noise: k s / (1 + (k - 1) s) (Esser et al. 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def quadratic(steps: int, threshold: float = 0.025) -> Tensor:
    """Return sigmas (steps + 1,) whose distance u from 1 grows evenly to `threshold` in half of the steps, then as a
    parabola.

    The parabola leaves the line without a bend: u(i) = t + t/L (i - L) + c (i - L)^2, with c such that u(steps) = 1.
    """
    import torch

    line, rest = steps // 2, steps - steps // 2
    if not line:
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    i = torch.arange(steps + 1, dtype=torch.float64)
    bend = (1 - threshold - threshold * rest / line) / rest**2
    sigmas = 1 - threshold * i / line - bend * (i - line).clamp_min(0) ** 2
    sigmas[-1] = 0
    return sigmas


def terminal(steps: int, shift: float, end: float = 0.1) -> Tensor:
    """Return sigmas (steps + 1,): 1 - i/steps shifted, then stretched away from 1 until the one before 0 is `end`.

    The distances from 1 are computed, so that the enormous shifts of long videos lose nothing: the published float32
    formula gives NaN from 52 thousand tokens on.
    """
    import torch

    sigma = 1 - torch.arange(steps, dtype=torch.float64) / steps
    away = (1 - sigma) / (1 + (shift - 1) * sigma)
    return torch.cat((1 - away * ((1 - end) / away[-1] if steps > 1 else 0), torch.zeros(1, dtype=torch.float64)))


def token_shift(tokens: int) -> float:
    """Return the shift of LTX-Video: e^mu with mu = 0.95 at 1024 tokens and 2.05 at 4096, extended as a line."""
    return math.exp(min(0.95 + (tokens - 1024) * (2.05 - 0.95) / (4096 - 1024), 700.0))


def staircase(sigmas: Tensor, block: Tensor, steps: Tensor, lag: float | Fraction) -> Tensor:
    """Return the sigma of each frame before each step when block b starts at step floor(b * lag).

    sigmas (N + 1,), block (F,) block number of each frame, steps (K,) -> (K, F). A block that has not started has
    sigmas[0], a finished one 0. With lag = ar_step this is the SkyReels-V2 timestep matrix (AR-Diffusion, 2025).
    """
    import torch

    count = len(sigmas) - 1
    start = torch.tensor([math.floor(b * min(lag, count)) for b in block.tolist()], dtype=torch.long)
    return sigmas[(steps[:, None] - start).clamp(0, count)]
