"""Solvers of the flow ordinary differential equation: a step function each, with a history per latent frame.

A step takes x (B, C, F, H, W) from sigma to sigma_next (F,) with the model's velocity there and the solver's state;
`step_noise` draws noise of the shape of x, for the solvers that need it. A column whose sigma does not change is returned
untouched, whatever its velocity. The state is a dict of tensors of shape (B, C, F, H, W) or (F,), so that a frame's part
of it can leave and come back with the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from longtake.core.noise import mix, per_frame

SolverState = dict[str, Tensor]
StepNoise = Callable[[], Tensor]


class SolverStep(Protocol):
    """A step function of a solver."""

    def __call__(
        self,
        x: Tensor,
        v: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        state: SolverState | None,
        step_noise: StepNoise = ...,
    ) -> tuple[Tensor, SolverState | None]:
        """Return x at sigma_next, and the new state."""


def no_noise() -> Tensor:
    """Refuse to draw noise: the default of the step functions, of which some need none."""
    raise ValueError("this solver draws noise at every step: pass step_noise")


def euler(
    x: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor, state: SolverState | None, step_noise: StepNoise = no_noise
) -> tuple[Tensor, None]:
    """Return x + (sigma_next - sigma) * v; with a 16-bit x only the whole step is rounded, not its length too."""
    moved = per_frame(sigma_next != sigma, x)
    step = per_frame(sigma_next - sigma, x.float() if x.dtype.itemsize < 4 else x) * v
    return torch.where(moved, x + step.to(x.dtype), x), None


def stochastic(
    x: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor, state: SolverState | None, step_noise: StepNoise = no_noise
) -> tuple[Tensor, None]:
    """Go to the clean video that v points at, then up to sigma_next with new noise (distilled LTX-Video)."""
    moved = sigma_next != sigma
    video = x - per_frame(sigma, x) * v
    if bool((moved & (sigma_next > 0)).any()):
        video = mix(video, step_noise().to(x), sigma_next)
    return torch.where(per_frame(moved, x), video, x), None


def unipc(
    x: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor, state: SolverState | None, step_noise: StepNoise = no_noise
) -> tuple[Tensor, SolverState]:
    """Take a step of UniPC, order 2, bh2, predicting clean video (Zhao et al. 2023, algorithms 1 and 2), frame by frame.

    State: `before`, the sample before the last step; `one` and `two`, the last two predictions of the clean video;
    `lambda_one`, `lambda_two`, their log signal-to-noise; `count`, how many predictions there are.
    """
    moved = sigma_next != sigma
    state = state or _empty(x, sigma)
    video = x - per_frame(sigma, x) * v
    now = _log_snr(sigma)
    x_now = torch.where(per_frame(state["count"] > 0, x), _correct(video, sigma, now, state), x)
    predicted = _predict(x_now, video, sigma, sigma_next, now, state)
    keep = per_frame(moved, x)
    new = {
        "before": torch.where(keep, x_now, state["before"]),
        "one": torch.where(keep, video, state["one"]),
        "two": torch.where(keep, state["one"], state["two"]),
        "lambda_one": torch.where(moved, now, state["lambda_one"]),
        "lambda_two": torch.where(moved, state["lambda_one"], state["lambda_two"]),
        "count": torch.where(moved, (state["count"] + 1).clamp_max(2), state["count"]),
    }
    return torch.where(keep, predicted, x), new


def _correct(video: Tensor, sigma: Tensor, now: Tensor, state: SolverState) -> Tensor:
    """Correct the sample at `sigma`, now that the model was called there (UniC)."""
    h = now - state["lambda_one"]
    phi = torch.expm1(-h)
    ratio = sigma / _sigma(state["lambda_one"])
    r = _safe(state["lambda_two"] - state["lambda_one"], h)
    rho_one, rho_two = _corrector_weights(r, h, phi)
    second = state["count"] >= 2
    weight_bend = torch.where(second, rho_one * _safe(torch.ones_like(r), r), 0.0)
    weight_new = torch.where(second, rho_two, 0.5)
    before, one, two = state["before"], state["one"], state["two"]
    change = per_frame(weight_bend, video) * (two - one) + per_frame(weight_new, video) * (video - one)
    return per_frame(ratio, video) * before - per_frame((1 - sigma) * phi, video) * (one + change)


def _predict(x: Tensor, video: Tensor, sigma: Tensor, sigma_next: Tensor, now: Tensor, state: SolverState) -> Tensor:
    """Predict the sample at sigma_next from the prediction at `sigma` and the one before it (UniP)."""
    h = _log_snr(sigma_next) - now
    phi = torch.expm1(-h)
    r = _safe(state["lambda_one"] - now, h)
    use = (state["count"] >= 1) & (sigma_next > 0)
    bend = torch.where(use, 0.5 * _safe(torch.ones_like(r), r), 0.0)
    change = per_frame(bend, x) * (state["one"] - video)
    ahead = per_frame(sigma_next / sigma.clamp_min(1e-12), x) * x - per_frame((1 - sigma_next) * phi, x) * (
        video + change
    )
    return torch.where(per_frame(sigma_next == 0, x), video, ahead)


def _corrector_weights(r: Tensor, h: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Solve [[1, 1], [r, 1]] rho = b of the order 2 corrector, B(h) = expm1(-h)."""
    first = _safe(phi, -h) - 1
    second = _safe(first, -h) - 0.5
    b_one, b_two = _safe(first, phi), 2 * _safe(second, phi)
    rho_one = _safe(b_two - b_one, r - 1)
    return rho_one, b_one - rho_one


def _log_snr(sigma: Tensor) -> Tensor:
    sigma = sigma.clamp(1e-12, 1 - 1e-6)
    return torch.log1p(-sigma) - sigma.log()


def _sigma(log_snr: Tensor) -> Tensor:
    return torch.sigmoid(-log_snr)


def _safe(top: Tensor, bottom: Tensor) -> Tensor:
    """Divide, and return 0 where bottom is 0 (a frame that does not move or has no history: not used)."""
    return torch.where(bottom == 0, 0.0, top / torch.where(bottom == 0, 1.0, bottom))


def _empty(x: Tensor, sigma: Tensor) -> SolverState:
    zero, none = torch.zeros_like(x), torch.zeros_like(sigma)
    return dict(before=zero, one=zero, two=zero, lambda_one=none, lambda_two=none, count=none)


def unipc_skyreels(
    x: Tensor, v: Tensor, sigma: Tensor, sigma_next: Tensor, state: SolverState | None, step_noise: StepNoise = no_noise
) -> tuple[Tensor, SolverState]:
    """Take a step of UniPC as the diffusion-forcing pipelines of SkyReels-V2 do, whose first correction is another.

    They keep a view of the latents as the sample before the first step, and write the result of the step into it. So the
    first correction of a frame starts from the sample behind its first step; all later ones are those of `unipc`.
    """
    new, after = unipc(x, v, sigma, sigma_next, state, step_noise)
    first = torch.ones_like(sigma, dtype=torch.bool) if state is None else state["count"] == 0
    after["before"] = torch.where(per_frame(first & (sigma_next != sigma), x), new, after["before"])
    return new, after


SOLVERS: dict[str, SolverStep] = {
    "euler": euler,
    "unipc": unipc,
    "unipc-skyreels": unipc_skyreels,
    "stochastic": stochastic,
}
