"""The noise levels that the options of a plan ask for."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from longtake.noise import Grid, listed, ramp
from longtake.plan import PlanError


class Sampled(Protocol):
    """Options that decide the noise levels."""

    @property
    def steps(self) -> int: ...
    @property
    def shift(self) -> float: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def levels(self) -> str: ...


def ladder(plan: Sampled) -> Tensor:
    """The noise levels of a plan: those listed, or a ramp. (calls + 1,) PlanError says what is wrong with them."""
    try:
        return listed(plan.levels) if plan.levels else ramp(plan.steps, plan.shift, plan.grid)
    except ValueError as error:
        raise PlanError(str(error)) from error
