"""The only loop over model calls: one window from its first row of sigmas to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from longtake.core.solvers import SolverState, SolverStep
from longtake.planning.window import Window


def denoise(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    window: Window,
    solver: SolverStep,
    solver_state: SolverState | None,
    context_noise: Callable[[Tensor, int], Tensor],
    step_noise: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, SolverState | None]]:
    """Integrate dx/dsigma = velocity(x, sigma) over the rows of window.sigmas; yields (x, solver_state) after every step.

    x: (B C F H W), every frame at its sigma of the first row. context_noise(x, step) prepares the context frames for a
    step; step_noise(sigma_next) draws noise (B C F H W) for a stochastic solver. A frame whose sigma stays is left as
    it is by the solver, whatever its velocity; and so is one of `window.on_schedule` in its first move.
    """
    soft = torch.tensor([f in window.on_schedule for f in window.frames])
    for step, (sigma, sigma_next) in enumerate(pairwise(window.sigmas)):
        with torch.inference_mode():
            x = context_noise(x, step)
            v = velocity(x, sigma)
            renamed = soft & (sigma == window.sigmas[0]) & (sigma < sigma.max() - 1e-6)
            target = torch.where(renamed, sigma, sigma_next)
            x, solver_state = solver(x, v, sigma, target, solver_state, partial(step_noise, sigma_next))
        yield x, solver_state
