"""Solvers of the flow ordinary differential equation: a step function each, history kept per latent frame as tensors.

A step takes x (B, C, F, H, W) from level to level_next (F,) with the model's velocity there, and what it remembers;
`fresh`, which draws noise of the shape of x, serves those that need some.
A column that does not move is returned untouched, whatever its velocity. Memory is a dict of tensors, of shape
(B, C, F, H, W) or (F,), so that a frame's share of it can leave and come back with the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from longtake.noise import mix, per_frame

Memory = dict[str, Tensor]
Fresh = Callable[[], Tensor]


class Step(Protocol):
    """One step of a solver."""

    def __call__(
        self, x: Tensor, v: Tensor, level: Tensor, level_next: Tensor, memory: Memory | None, fresh: Fresh = ...
    ) -> tuple[Tensor, Memory | None]:
        """-> x at level_next, and what to remember."""


def no_noise() -> Tensor:
    """For steps that draw none."""
    raise ValueError("this solver draws noise at every step, and was given none")


def euler(
    x: Tensor, v: Tensor, level: Tensor, level_next: Tensor, memory: Memory | None, fresh: Fresh = no_noise
) -> tuple[Tensor, None]:
    """x + (level_next - level) * v; of a 16-bit x the step is rounded once, not its length too."""
    moved = per_frame(level_next != level, x)
    step = per_frame(level_next - level, x.float() if x.dtype.itemsize < 4 else x) * v
    return torch.where(moved, x + step.to(x.dtype), x), None


def stochastic(
    x: Tensor, v: Tensor, level: Tensor, level_next: Tensor, memory: Memory | None, fresh: Fresh = no_noise
) -> tuple[Tensor, None]:
    """To the clean video that v points at, then up to level_next with fresh noise (distilled LTX-Video)."""
    moved = level_next != level
    video = x - per_frame(level, x) * v
    if bool((moved & (level_next > 0)).any()):
        video = mix(video, fresh().to(x), level_next)
    return torch.where(per_frame(moved, x), video, x), None


def unipc(
    x: Tensor, v: Tensor, level: Tensor, level_next: Tensor, memory: Memory | None, fresh: Fresh = no_noise
) -> tuple[Tensor, Memory]:
    """UniPC of order 2, bh2, predicting clean video (Zhao et al. 2023, algorithms 1 and 2), each frame on its own.

    Memory: `before`, the sample before the last step; `one` and `two`, the last two predictions of the clean video;
    `lambda_one`, `lambda_two`, their log signal-to-noise; `count`, how many predictions there are.
    """
    moved = level_next != level
    memory = memory or _empty(x, level)
    video = x - per_frame(level, x) * v
    now = _log_snr(level)
    x_now = torch.where(per_frame(memory["count"] > 0, x), _correct(video, level, now, memory), x)
    predicted = _predict(x_now, video, level, level_next, now, memory)
    keep = per_frame(moved, x)
    new = {
        "before": torch.where(keep, x_now, memory["before"]),
        "one": torch.where(keep, video, memory["one"]),
        "two": torch.where(keep, memory["one"], memory["two"]),
        "lambda_one": torch.where(moved, now, memory["lambda_one"]),
        "lambda_two": torch.where(moved, memory["lambda_one"], memory["lambda_two"]),
        "count": torch.where(moved, (memory["count"] + 1).clamp_max(2), memory["count"]),
    }
    return torch.where(keep, predicted, x), new


def _correct(video: Tensor, level: Tensor, now: Tensor, memory: Memory) -> Tensor:
    """The sample at `level` made again now that the model has been called there (UniC)."""
    h = now - memory["lambda_one"]
    phi = torch.expm1(-h)
    ratio = level / _level(memory["lambda_one"])
    r = _safe(memory["lambda_two"] - memory["lambda_one"], h)
    rho_one, rho_two = _corrector_weights(r, h, phi)
    second = memory["count"] >= 2
    weight_bend = torch.where(second, rho_one * _safe(torch.ones_like(r), r), 0.0)
    weight_new = torch.where(second, rho_two, 0.5)
    before, one, two = memory["before"], memory["one"], memory["two"]
    change = per_frame(weight_bend, video) * (two - one) + per_frame(weight_new, video) * (video - one)
    return per_frame(ratio, video) * before - per_frame((1 - level) * phi, video) * (one + change)


def _predict(x: Tensor, video: Tensor, level: Tensor, level_next: Tensor, now: Tensor, memory: Memory) -> Tensor:
    """The sample at level_next from the prediction at `level` and the one before it (UniP)."""
    h = _log_snr(level_next) - now
    phi = torch.expm1(-h)
    r = _safe(memory["lambda_one"] - now, h)
    use = (memory["count"] >= 1) & (level_next > 0)
    bend = torch.where(use, 0.5 * _safe(torch.ones_like(r), r), 0.0)
    change = per_frame(bend, x) * (memory["one"] - video)
    ahead = per_frame(level_next / level.clamp_min(1e-12), x) * x - per_frame((1 - level_next) * phi, x) * (
        video + change
    )
    return torch.where(per_frame(level_next == 0, x), video, ahead)


def _corrector_weights(r: Tensor, h: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Solve [[1, 1], [r, 1]] rho = b of the order 2 corrector, B(h) = expm1(-h)."""
    first = _safe(phi, -h) - 1
    second = _safe(first, -h) - 0.5
    b_one, b_two = _safe(first, phi), 2 * _safe(second, phi)
    rho_one = _safe(b_two - b_one, r - 1)
    return rho_one, b_one - rho_one


def _log_snr(level: Tensor) -> Tensor:
    level = level.clamp(1e-12, 1 - 1e-6)
    return torch.log1p(-level) - level.log()


def _level(log_snr: Tensor) -> Tensor:
    return torch.sigmoid(-log_snr)


def _safe(top: Tensor, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where bottom is 0 (a frame that does not move or has no history: not used)."""
    return torch.where(bottom == 0, 0.0, top / torch.where(bottom == 0, 1.0, bottom))


def _empty(x: Tensor, level: Tensor) -> Memory:
    zero, none = torch.zeros_like(x), torch.zeros_like(level)
    return dict(before=zero, one=zero, two=zero, lambda_one=none, lambda_two=none, count=none)


SOLVERS: dict[str, Step] = {"euler": euler, "unipc": unipc, "stochastic": stochastic}
