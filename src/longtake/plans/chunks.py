"""Window after window: one clip, relay, sliding window, soft overlap, cross-clip conditioning, async windows.

Every window knows the last frames of the one before it. What differs is how they are handed over (on the tape, as
latents or as pixels), whether they stay put, and whether the new frames fall together or as a staircase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, is_whole, latents_of_frames, nearest_whole, place_of_frame
from longtake.noise import GRIDS, Grid, staircase
from longtake.plan import Cut, Limits, PlanError, Repeated, Role, Window, with_guides
from longtake.plans.levels import ladder

HANDS = ("tape", "latents", "pixels", "pixels8", "floor8")
KEEPS = ("old", "new", "blend")
NOISES = ("frozen", "call")


@dataclass(frozen=True)
class Chunks:
    """Windows of a fixed length that overlap.

    Each of these is also a flag of the command line, with the text here as its help.

    steps: model calls that take a frame from noise to video.
    shift: above 1 spends more of the steps at high noise.
    grid: how the noise levels are spaced (see noise.ramp).
    levels: the noise levels before every call themselves, as in 1,0.99,0.9,0.7, instead of steps, shift and grid.
    window: output frames per window, 1 + stride * k (default: all that the model sees). Where blocks do not divide a
    window, it is made shorter.
    overlap: output frames known from the window before, 1 + stride * k.
    hand: how they are handed over: "tape" goes on in one take, where latents stay as they are; "latents", "pixels" and
    "pixels8" (8 bits per colour) and "floor8" (rounded down, as published for SVI) cut to a new take.
    context: noise level of the known frames, against drift (SkyReels addnoise_condition / 1000).
    noise: whether that noise is "frozen" for a window or drawn anew for each "call", as published.
    lag: model calls between the starts of two blocks (ar_step); 0: all fall together.
    block: latent frames that fall together (0: the model's).
    strength: below 1 the known frames are remade, from level 1 - strength, and cross-faded (LTX looping sampler).
    keep: which version of the seam is shown after a cut, or a "blend" of both.
    anchor: the first latent told after a cut is the first one of the video (SVI 2.0 Pro).
    beside: known frames are told beside x, and all columns fall (Wan image-to-video, SVI).
    cond_noise: untold noise on frames that are held clean, times the level squared (LTX image_cond_noise_scale).
    single: only one window; longer videos are refused.
    """

    steps: int = 30
    shift: float = 3.0
    grid: Grid = "linear"
    levels: str = ""
    window: int | None = None
    overlap: int = 17
    hand: Literal["tape", "latents", "pixels", "pixels8", "floor8"] = "tape"
    context: float = 0.0
    noise: Literal["frozen", "call"] = "frozen"
    lag: int = 0
    block: int = 0
    strength: float = 1.0
    keep: Literal["old", "new", "blend"] = "old"
    anchor: bool = False
    beside: bool = False
    cond_noise: float = 0.0
    single: bool = False

    def __post_init__(self):
        for name, value, choices in (
            ("grid", self.grid, GRIDS),
            ("hand", self.hand, HANDS),
            ("keep", self.keep, KEEPS),
            ("noise", self.noise, NOISES),
        ):
            _require(value in choices, f"--{name} is one of {', '.join(choices)}, not {value!r}")
        _require(self.cond_noise >= 0, f"--cond-noise must be 0 or more, not {self.cond_noise}")
        _require(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        ladder(self)
        _require(0 <= self.context < 1, f"--context must be a noise level in [0, 1), not {self.context}")
        _require(0 < self.strength <= 1, f"--strength must lie in (0, 1], not {self.strength}")
        _require(self.lag >= 0, f"--lag must be 0 or more, not {self.lag}")
        _require(self.block >= 0, f"--block must be at least 1, not {self.block}")
        _require(self.overlap >= 0, f"--overlap must be 0 or more, not {self.overlap}")
        _require(
            self.hand == "tape" or self.overlap > 0 or self.single, "a relay needs an overlap of at least one frame"
        )
        soft = self.strength < 1
        _require(not (soft and (self.hand != "tape" or self.lag)), "--strength needs --hand tape and no --lag")
        _require(not self.anchor or self.hand == "latents", "--anchor needs --hand latents")
        _require(not self.anchor or self.overlap > 1, "--anchor needs an --overlap of more than the anchor's one frame")
        _require(
            self.keep == "old" or self.hand in ("pixels", "pixels8", "floor8"),
            f"--keep {self.keep} needs --hand pixels or pixels8",
        )

    @property
    def seam(self) -> int:
        """Output frames that the engine must keep to hand over at a cut."""
        return self.overlap if self.hand != "tape" else 0

    def windows(
        self, frames: int | None, stride: int, limits: Limits, known: int = 0, guides: int = 0
    ) -> Iterator[Window]:
        """The windows that make `frames` output frames (None: without end).

        known latents are given at the start; guides latents follow the last window, seen by it and never shown.
        """
        plan = replace(self, block=self.block or limits.block, steps=len(ladder(self)) - 1)
        _require(not (self.single and frames is None), "one clip has an end: give a length or use --plan sliding")
        _require(not (guides and frames is None), "an endless video has no last frame: give a length")
        _require(
            frames is None or frames > frames_of_latents(known, stride), f"all {frames} frames are given: ask for more"
        )
        return plan._windows(frames, stride, _Shape.of(plan, stride, limits), known, guides)

    def _windows(self, frames: int | None, stride: int, shape: _Shape, known: int, guides: int) -> Iterator[Window]:
        levels = ladder(self)
        finished = have = known  # latents of this take, and those that the next window knows
        start = shown = 0  # the first latent in view, and the frame of the video at which the take begins
        repeated = Repeated()
        for index in count():
            size = have + _whole_blocks((shape.first - have) if index == 0 else shape.fresh, self.block)
            _require(size > have, f"{known} latent frames are given, which leaves no room in the first window")
            left = None if frames is None else latents_of_frames(frames - shown, stride) - finished
            if left is not None:
                _require(
                    not self.single or (index == 0 and left <= size - have),
                    self._too_long(frames, stride, size, shape.alone),
                )
                size = min(size, have + _blocks_for(left, self.block, first=have == 0))
            make = partial(self._window, levels, index, start, have, size, stride)
            window = repeated((index > 0, have, size), range(start, start + size), make)
            finished += size - have
            if frames is not None and shown + frames_of_latents(finished, stride) >= frames:
                at = place_of_frame(frames - 1 - shown, stride) if shape.end == "at" else None
                yield with_guides(window, guides, at)
                return
            yield window
            have = shape.overlap
            if self.hand == "tape":
                start = finished - have
            else:
                shown += frames_of_latents(finished, stride) - self.overlap
                finished, start = have, 0

    def _window(self, levels: Tensor, index: int, start: int, have: int, size: int, stride: int) -> Window:
        fresh, before = blocks(size - have, self.block), blocks(have, self.block)
        calls = torch.arange(self.steps + min(self.lag, self.steps) * int(fresh.max()) + 1)
        soft = self.strength < 1 and have > 0 and index > 0
        old = staircase(levels, torch.zeros_like(before), calls, 0)
        if soft:
            old = old.clamp_max(1 - self.strength)
        elif not self.beside:
            old = torch.full_like(old, self.context if index else 0.0)
        fade = torch.linspace(0, 1, have + 2, dtype=torch.float64)[1:-1]
        return Window(
            frames=range(start, start + size),
            levels=torch.cat([old, staircase(levels, fresh, calls, self.lag)], 1),
            role=[self._role(soft)] * have + ["make"] * (size - have),
            block=torch.cat([before, fresh + (int(before.max()) + 1 if have else 0)]).tolist(),
            cut=Cut(self.overlap, self.hand, self.keep, self.anchor) if index and self.hand != "tape" else None,
            hold=latents_of_frames(self.overlap, stride) if self.strength < 1 else 0,
            blend=torch.cat([fade, torch.ones(size - have)]) if soft else None,
            noise=self.noise,
            cond_noise=self.cond_noise,
        )

    def _role(self, soft: bool) -> Role:
        return "beside" if self.beside else "make" if soft else "context"

    def _too_long(self, frames: int | None, stride: int, size: int, alone: bool) -> str:
        most = frames_of_latents(size, stride)
        other = "take a checkpoint that goes on from frames (df or i2v)" if alone else "use --plan sliding"
        return f"one clip makes at most {most} frames here, not {frames}: ask for {most} or {other}"


@dataclass(frozen=True)
class _Shape:
    """A Chunks setting in latent frames: the first window, what is known later, and what is new later.

    alone: no window can know of another. end: see `Limits`.
    """

    first: int
    overlap: int
    fresh: int
    alone: bool
    end: Literal["behind", "at"]

    @staticmethod
    def of(plan: Chunks, stride: int, limits: Limits) -> _Shape:
        """That of a plan on a codec of this stride. PlanError if its frames do not fill latents or are not in view."""
        most = frames_of_latents(limits.view, stride)
        window = plan.window if plan.window is not None else most
        for name, frames in (("--window", window), ("--overlap", plan.overlap)):
            if frames and not is_whole(frames, stride):
                low, high = nearest_whole(frames, stride)
                raise PlanError(f"{name} {frames} does not fill whole latent frames of {stride}: use {low} or {high}")
        _require(window <= most, f"--window {window} is longer than this model sees at once: use at most {most}")
        first, overlap = latents_of_frames(window, stride), latents_of_frames(plan.overlap, stride)
        fresh = (first - overlap) // plan.block * plan.block
        if not plan.single and fresh < 1:
            need = frames_of_latents(first - plan.block, stride)
            raise PlanError(
                f"a window of {window} frames with an overlap of {plan.overlap} leaves no room for a new block of "
                f"{plan.block} latent frames: use --overlap {need} or less, or a longer --window"
                if need > 0
                else f"a window of {window} frames holds no block of {plan.block} latent frames: use a smaller --block"
            )
        return _Shape(first, overlap, max(fresh, 1), limits.context == "none", limits.end)


def blocks(count: int, block: int) -> Tensor:
    """Block number of each of `count` frames: whole blocks, the first of which takes one frame or a rest more. (count,)

    25 frames in blocks of 5: 5 5 5 5 5. 25 frames in blocks of 4: a first block of 1 + 4, then 4 4 4 4 4.
    """
    rest = count % block if count > block else 0
    if rest > 1:
        return torch.cat([torch.zeros(rest, dtype=torch.long), torch.arange(count - rest) // block + 1])
    return ((torch.arange(count) - rest) // block).clamp_min(0)


def _whole_blocks(count: int, block: int) -> int:
    """The most frames not above `count` that make whole blocks, or a first block of 1 + block and whole ones."""
    rest = count % block
    return count if rest <= 1 else count - rest


def _blocks_for(count: int, block: int, first: bool) -> int:
    """The fewest frames that hold `count` in whole blocks; the first window of a take may have one more (1 + k)."""
    if first and count > 1 and (count - 1) % block == 0:
        return count
    return -(-count // block) * block


def _require(true: bool, message: str) -> None:
    if not true:
        raise PlanError(message)
