"""One staircase without end: async diffusion forcing, rolling forcing, and block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import count, groupby

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, is_whole, latents_of_frames, nearest_whole
from longtake.noise import GRIDS, Grid, staircase
from longtake.plan import Limits, PlanError, Repeated, Role, Window
from longtake.plans.levels import ladder


@dataclass(frozen=True)
class Stream:
    """Every block starts `lag` calls after the one before it; the view slides along with the staircase.

    Each of these is also a flag of the command line, with the text here as its help.

    steps: model calls that take a frame from noise to video.
    shift: above 1 spends more of the steps at high noise.
    grid: how the noise levels are spaced (see noise.ramp).
    levels: the noise levels before every call themselves, as in 1,0.99,0.9,0.7, instead of steps, shift and grid.
    lag: model calls between the starts of two blocks; 0: as many as make the staircase fill the view but for
    `past` (rolling forcing), at least `least`;
    None: as many as there are steps (block by block).
    least: the smallest lag that 0 stands for.
    block: latent frames that fall together (0: the model's).
    window: output frames in view, 1 + stride * k (default: all that the model sees).
    eager: frames enter the view when they start, not before.
    past: clean latent frames kept in view (default: as many as fit).
    sinks: the first latent frames of the take that stay in view for ever (attention sinks).
    """

    steps: int = 30
    shift: float = 3.0
    grid: Grid = "linear"
    levels: str = ""
    lag: int | None = 5
    least: int = 0
    block: int = 0
    window: int | None = None
    eager: bool = False
    past: int | None = None
    sinks: int = 0

    seam = 0
    single = False

    def __post_init__(self):
        if self.grid not in GRIDS:
            raise PlanError(f"--grid is one of {', '.join(GRIDS)}, not {self.grid!r}")
        ladder(self)
        for name, value, least in (
            ("steps", self.steps, 1),
            ("block", self.block, 0),
            ("sinks", self.sinks, 0),
            ("least", self.least, 0),
        ):
            if value < least:
                raise PlanError(f"--{name} must be at least {least}, not {value}")
        if self.lag is not None and self.lag < 0:
            raise PlanError(f"--lag must be 0 or more, not {self.lag}")
        if self.past is not None and self.past < 0:
            raise PlanError(f"--past must be 0 or more, not {self.past}")

    def windows(
        self, frames: int | None, stride: int, limits: Limits, known: int = 0, guides: int = 0
    ) -> Iterator[Window]:
        """The windows that make `frames` output frames (None: without end), `known` latents being given at the start."""
        if guides:
            raise PlanError("a stream has no last window that could see an end frame: use --plan sliding or async")
        if frames is not None and frames <= frames_of_latents(known, stride):
            raise PlanError(f"all {frames} frames are given: ask for more")
        plan = replace(self, block=self.block or limits.block, steps=len(ladder(self)) - 1)
        blocks = None if frames is None else -(-(latents_of_frames(frames, stride) - known) // plan.block)
        return plan._windows(plan._view(stride, limits), blocks, known)

    def _windows(self, view: int, blocks: int | None, known: int) -> Iterator[Window]:
        levels = ladder(self)
        lag = self._lag(view)
        calls = count() if blocks is None else range(self.steps + math.floor(lag * (blocks - 1)))
        repeated = Repeated()
        for frames, group in groupby(calls, key=lambda call: self._in_view(call, lag, view, blocks, known)):
            rows = list(group)
            began = [(frame - known) // self.block for frame in frames]
            alike = [(b - began[-1], None if b < 0 else b * lag.numerator // lag.denominator - rows[0]) for b in began]
            yield repeated((len(rows), *alike), frames, partial(self._window, levels, lag, frames, rows, began))

    def _window(
        self, levels: Tensor, lag: Fraction, frames: Sequence[int], rows: Sequence[int], began: Sequence[int]
    ) -> Window:
        """The window of some calls (rows); began: the block of each frame, below 0 if it was given."""
        block = torch.tensor(began)
        table = staircase(levels, block, torch.arange(rows[0], rows[-1] + 2), lag)
        table[:, block < 0] = 0.0
        role: list[Role] = ["context" if clean else "make" for clean in (table[0] == 0).tolist()]
        return Window(frames, table, role=role, block=(block - block.min()).tolist(), text="frame")

    def _lag(self, view: int) -> Fraction:
        if self.lag == 0:
            filling = Fraction(self.steps, max(1, (view - (self.past or 0)) // self.block))
            return max(filling, Fraction(min(self.least, self.steps)))
        return Fraction(self.steps if self.lag is None else min(self.lag, self.steps))

    def _view(self, stride: int, limits: Limits) -> int:
        most = frames_of_latents(limits.view, stride)
        window = self.window if self.window is not None else most
        if not is_whole(window, stride):
            low, high = nearest_whole(window, stride)
            raise PlanError(f"--window {window} does not fill whole latent frames of {stride}: use {low} or {high}")
        if window > most:
            raise PlanError(f"--window {window} is longer than this model sees at once: use at most {most}")
        view = (latents_of_frames(window, stride) - self.sinks) // self.block * self.block
        if view < self.block:
            raise PlanError(f"a view of {window} frames has no room for {self.sinks} sinks and a block of {self.block}")
        moving = math.ceil(self.steps / self._lag(view)) * self.block  # frames between pure noise and clean at once
        if moving > view:
            least = math.ceil(self.steps * self.block / view)
            raise PlanError(
                f"a lag of {self.lag} keeps {moving} latent frames in flight, but {view} are in view: "
                f"use --lag {least} or more"
            )
        return view

    def _in_view(self, call: int, lag: Fraction, view: int, blocks: int | None, known: int) -> tuple[int, ...]:
        """Frames in view at a call: up to the newest block, back to what fits; sinks before them."""
        started = known + _started(call, lag) * self.block
        front = started if self.eager else max(started, view)
        if blocks is not None:
            front = min(front, known + blocks * self.block)
        first = max(0, front - view)
        if self.past is not None:
            first = max(first, known + _started(call - self.steps, lag) * self.block - self.past)
        return (*range(min(self.sinks, first)), *range(first, front))


def _started(call: int, lag: Fraction) -> int:
    """Blocks whose first call is not after `call`: block b starts at call floor(b * lag)."""
    return max(0, -(-(call + 1) * lag.denominator // lag.numerator))  # ceil, in whole numbers: much the faster
