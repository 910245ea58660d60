"""Diffusion forcing without end: one staircase of sigmas under a sliding view (async, rolling forcing, block by block)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import count, groupby
from typing import TYPE_CHECKING, Literal

from longtake.core.geometry import latents_of_frames
from longtake.core.sigmas import DEFAULT_SCHEDULE, SigmaSchedule, sigmas_of, staircase
from longtake.planning.limits import Limits
from longtake.planning.strategies import options as given
from longtake.planning.strategies.options import require
from longtake.planning.strategies.repeated_windows import RepeatedWindows
from longtake.planning.window import PlanTraits, Role, Window

if TYPE_CHECKING:
    from torch import Tensor


Count = int | Literal["all"]


@dataclass(frozen=True)
class DiffusionForcing:
    """Blocks that start one after another, `ar_step` steps apart; the view slides along with the staircase.

    ar_step: steps between the starts of two blocks, the lag of the staircase. 0: as many as make the staircase fill the
    view but for context_frames (rolling forcing), at least min_lag. all: as many as there are steps (block by block).
    min_lag: lower bound on the ar_step that --ar-step 0 computes.
    causal_block_size: latent frames that are denoised together (0: as the model was trained).
    window: output frames in view, 1 + temporal compression * k (default: as many as the model sees at once).
    grow_view: a frame enters the view when its denoising starts, not earlier.
    context_frames: clean latent frames that stay in view. all: as many as fit.
    sink_frames: the first latent frames of the clip that stay in view to the end (attention sinks).
    """

    schedule: SigmaSchedule = DEFAULT_SCHEDULE
    ar_step: Count = 5
    min_lag: int = 0
    causal_block_size: int = 0
    window: int | None = None
    grow_view: bool = False
    context_frames: Count = "all"
    sink_frames: int = 0

    def __post_init__(self):
        for name in ("ar_step", "min_lag", "causal_block_size", "context_frames", "sink_frames"):
            given.require_count(
                name, getattr(self, name), words=("all",) if name in ("ar_step", "context_frames") else ()
            )

    @property
    def traits(self) -> PlanTraits:
        """What the engine and the estimates need to know."""
        return PlanTraits(window_frames=self.window)

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the windows that generate `num_frames` output frames (see `Plan`). A last frame is refused."""
        require(
            not end_latents,
            "a staircase has no last window that could see a last frame: use --strategy sliding or async",
        )
        given.require_new_frames(num_frames, given_latents, temporal_compression)
        plan = replace(self, causal_block_size=self.causal_block_size or limits.block)
        total = None if num_frames is None else latents_of_frames(num_frames, temporal_compression)
        blocks = None if total is None else -(-(total - given_latents) // plan.causal_block_size)
        sigmas = sigmas_of(self.schedule)
        view = plan._view(temporal_compression, limits, len(sigmas) - 1)
        return plan._windows(sigmas, view, blocks, given_latents)

    def _windows(self, sigmas: Tensor, view: int, blocks: int | None, given_latents: int) -> Iterator[Window]:
        length = len(sigmas) - 1
        lag = self._lag(view, length)
        steps = count() if blocks is None else range(length + math.floor(lag * (blocks - 1)))
        repeated = RepeatedWindows()
        in_view = partial(self._in_view, length=length, lag=lag, view=view, blocks=blocks, given_latents=given_latents)
        for frames, group in groupby(steps, key=in_view):
            rows = list(group)
            began = [(frame - given_latents) // self.causal_block_size for frame in frames]
            alike = [(b - began[-1], None if b < 0 else b * lag.numerator // lag.denominator - rows[0]) for b in began]
            yield repeated((len(rows), *alike), frames, partial(self._window, sigmas, lag, frames, rows, began))

    def _window(
        self, sigmas: Tensor, lag: Fraction, frames: Sequence[int], rows: Sequence[int], began: Sequence[int]
    ) -> Window:
        """Make the window of some steps (rows). began: the block of each frame, below 0 if the user gave it."""
        import torch

        block = torch.tensor(began)
        table = staircase(sigmas, block, torch.arange(rows[0], rows[-1] + 2), lag)
        table[:, block < 0] = 0.0
        role: list[Role] = ["context" if clean else "generate" for clean in (table[0] == 0).tolist()]
        return Window(frames, table, role=role, block=(block - block.min()).tolist(), text="frame")

    def _lag(self, view: int, length: int) -> Fraction:
        """Return the steps between the starts of two blocks. length: steps of a block."""
        if self.ar_step == 0:
            filling = Fraction(
                length,
                max(1, (view - (0 if self.context_frames == "all" else self.context_frames)) // self.causal_block_size),
            )
            return max(filling, Fraction(min(self.min_lag, length)))
        return Fraction(length if self.ar_step == "all" else min(self.ar_step, length))

    def _view(self, temporal_compression: int, limits: Limits, length: int) -> int:
        """Return the latent frames in view, without sinks: whole blocks. Raise PlanError if that is too few or too many."""
        window, block = given.window_frames(self.window, temporal_compression, limits), self.causal_block_size
        view = (latents_of_frames(window, temporal_compression) - self.sink_frames) // block * block
        require(
            view >= block, f"a view of {window} frames has no room for {self.sink_frames} sinks and a block of {block}"
        )
        moving = math.ceil(length / self._lag(view, length)) * block  # frames between pure noise and clean at once
        require(
            moving <= view,
            f"--ar-step {self.ar_step} keeps {moving} latent frames between noise and video at once, but {view} are in "
            f"view: use --ar-step {math.ceil(length * block / view)} or more",
        )
        return view

    def _in_view(
        self, step: int, length: int, lag: Fraction, view: int, blocks: int | None, given_latents: int
    ) -> tuple[int, ...]:
        """Return the frames in view at a step: up to the newest block, back to what fits, and sinks before them."""
        started = given_latents + _started(step, lag) * self.causal_block_size
        front = started if self.grow_view else max(started, view)
        if blocks is not None:
            front = min(front, given_latents + blocks * self.causal_block_size)
        first = max(0, front - view)
        if self.context_frames != "all":
            clean = given_latents + _started(step - length, lag) * self.causal_block_size
            first = max(first, clean - self.context_frames)
        return (*range(min(self.sink_frames, first)), *range(first, front))


def _started(step: int, lag: Fraction) -> int:
    """Count the blocks that have started by a step: block b starts at step floor(b * lag)."""
    return max(0, -(-(step + 1) * lag.denominator // lag.numerator))  # ceil, in whole numbers: much the faster
