"""Two-stage generation as windows: the second stage denoises what the first one generated again, at a larger size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from longtake.core.errors import PlanError
from longtake.planning.window import Window


def second_pass_window(window: Window, sigmas: Sequence[float]) -> Window:
    """Return the window with other sigmas (before every step of the second stage), at the first of which all that moves starts.

    Raise PlanError if the window does not end clean.
    """
    moves = window.moves
    if bool(window.sigmas[-1, moves].any()):
        raise PlanError(
            "two-stage generation needs windows that end clean: use the strategy relay, sliding, looping or clip"
        )
    table = torch.tensor([*sigmas, 0.0], dtype=torch.float64)[:, None]
    return replace(window, sigmas=torch.where(moves, table.minimum(window.sigmas[0]), window.sigmas[0]))
