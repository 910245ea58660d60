"""Sliding windows: one clip, relay, windows that overlap, soft overlaps, clip conditioning, async windows.

Every window is conditioned on the last frames of the one before it. The strategies differ in how these are handed over (in
place, as latents or as pixels), whether they are generated again, and whether new frames are denoised together or as a
staircase.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal, get_args

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents, latents_of_frames, place_of_frame
from longtake.core.sigmas import DEFAULT_SCHEDULE, SigmaSchedule, sigmas_of, staircase
from longtake.planning.keyframe_columns import with_end_frame
from longtake.planning.limits import Limits
from longtake.planning.strategies import options as given
from longtake.planning.strategies.options import fixed, require
from longtake.planning.strategies.repeated_windows import RepeatedWindows
from longtake.planning.window import Cut, OverlapSource, PlanTraits, Role, Window

if TYPE_CHECKING:
    from torch import Tensor

Handoff = Literal["latents-in-place", "latents", "pixels", "pixels-uint8", "pixels-floor8"]
ContextNoiseMode = Literal["frozen", "resampled"]


@dataclass(frozen=True)
class SlidingWindow:
    """Windows of a fixed length that overlap.

    window: output frames per window, 1 + temporal compression * k (default: as many as the model sees at once).
    If blocks do not divide a window, it gets shorter.
    overlap: output frames that a window is conditioned on, from the window before, 1 + temporal compression * k.
    handoff: how the overlap is handed over. latents-in-place keeps one clip, whose latents stay as they are; latents, pixels,
    pixels-uint8 (8 bits per colour) and pixels-floor8 (rounded down, as published for SVI) cut to a new clip.
    overlap_source: the frames that the video shows in the overlap of two clips: old, new, or a cross-fade (blend).
    anchor: start each clip after the first with the first latent of the shot as a reference (SVI 2.0 Pro).
    context_noise: sigma of the context frames, against drift (SkyReels addnoise_condition / 1000).
    context_noise_mode: the context noise is frozen for a window, or resampled at each step as in SkyReels-V2.
    noise_given_frames: in the first window, add the context noise to the frames of an input image or video, as SkyReels-V2.
    strength: below 1, the overlap is generated again from sigma 1 - strength and cross-faded (LTX looping sampler).
    ar_step: steps between the starts of two blocks, the lag of a staircase; 0 denoises all new frames together.
    causal_block_size: latent frames that are denoised together (0: as the model was trained).
    image_cond_noise_scale: noise that is added to clean context frames, times sigma squared (LTX).
    """

    schedule: SigmaSchedule = DEFAULT_SCHEDULE
    window: int | None = None
    overlap: int = 17
    handoff: Handoff = "latents-in-place"
    overlap_source: OverlapSource = "old"
    anchor: bool = False
    context_noise: float = 0.0
    context_noise_mode: ContextNoiseMode = "frozen"
    noise_given_frames: bool = True
    strength: float = 1.0
    ar_step: int = 0
    causal_block_size: int = 0
    image_cond_noise_scale: float = 0.0
    concat_conditioning: bool = fixed(False)
    single_window: bool = fixed(False)

    def __post_init__(self):
        given.require_choice("handoff", self.handoff, get_args(Handoff))
        given.require_choice("overlap_source", self.overlap_source, get_args(OverlapSource))
        given.require_choice("context_noise_mode", self.context_noise_mode, get_args(ContextNoiseMode))
        for name in ("image_cond_noise_scale", "ar_step", "causal_block_size", "overlap"):
            given.require_least(name, getattr(self, name), 0)
        require(0 <= self.context_noise < 1, f"--context-noise is a sigma in [0, 1), not {self.context_noise}")
        given.require_strength(self.strength)
        require(
            not self._cuts or self.overlap > 0 or self.single_window,
            f"--handoff {self.handoff} needs an --overlap of at least one frame",
        )
        soft = self.strength < 1
        require(
            not (soft and (self._cuts or self.ar_step)),
            "--strength below 1 needs --handoff latents-in-place and no --ar-step",
        )
        require(not self.anchor or self.handoff == "latents", "--anchor needs --handoff latents")
        require(not self.anchor or self.overlap > 1, "--anchor needs an --overlap of more than the anchor's one frame")
        require(
            self.overlap_source == "old" or self.handoff.startswith("pixels"),
            f"--overlap-source {self.overlap_source} needs --handoff pixels or pixels-uint8",
        )

    @property
    def traits(self) -> PlanTraits:
        """What the engine and the estimates need to know."""
        return PlanTraits(
            tail_frames=self.overlap if self._cuts else 0, context_frames=self.overlap, window_frames=self.window,
            anchor=self.anchor, single_window=self.single_window, stretches=True,
        )  # fmt: skip

    @property
    def _cuts(self) -> bool:
        return self.handoff != "latents-in-place"

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the windows that generate `num_frames` output frames (see `Plan`)."""
        require(
            not (self.single_window and num_frames is None),
            "one clip has an end: give a length or use --strategy sliding",
        )
        given.require_end(num_frames, end_latents)
        given.require_new_frames(num_frames, given_latents, temporal_compression)
        plan = replace(self, causal_block_size=self.causal_block_size or limits.block)
        shape = _Shape.of(plan, temporal_compression, limits)
        return plan._windows(num_frames, temporal_compression, shape, given_latents, end_latents)

    def _windows(
        self, num_frames: int | None, temporal_compression: int, shape: _Shape, given_latents: int, end_latents: int
    ) -> Iterator[Window]:
        sigmas = sigmas_of(self.schedule)
        finished = have = given_latents  # latents of this clip, and those that the next window is conditioned on
        start = shown = 0  # the first latent in view, and the frame of the video at which the clip starts
        repeated = RepeatedWindows()
        for index in count():
            size = have + _whole_blocks((shape.first - have) if index == 0 else shape.fresh, self.causal_block_size)
            require(size > have, f"{given_latents} latent frames are given, which leaves no room in the first window")
            if num_frames is not None:
                left = latents_of_frames(num_frames - shown, temporal_compression) - finished
                require(
                    not self.single_window or (index == 0 and left <= size - have),
                    self._too_long(num_frames, temporal_compression, size, shape.alone),
                )
                size = min(size, have + _blocks_for(left, self.causal_block_size, first=have == 0))
            make = partial(self._window, sigmas, index, start, have, size, temporal_compression)
            window = repeated((index > 0, have, size), range(start, start + size), make)
            finished += size - have
            if num_frames is not None and shown + frames_of_latents(finished, temporal_compression) >= num_frames:
                at = shape.place(num_frames - 1 - shown, temporal_compression)
                yield with_end_frame(window, end_latents, at)
                return
            yield window
            have = shape.overlap
            if self._cuts:
                shown += frames_of_latents(finished, temporal_compression) - self.overlap
                finished, start = have, 0
            else:
                start = finished - have

    def _window(
        self, sigmas: Tensor, index: int, start: int, have: int, size: int, temporal_compression: int
    ) -> Window:
        """Make window number `index`: of its `size` latents from `start` on, the first `have` are context."""
        import torch

        fresh, before = blocks(size - have, self.causal_block_size), blocks(have, self.causal_block_size)
        count = len(sigmas) - 1
        steps = torch.arange(count + min(self.ar_step, count) * int(fresh.max()) + 1)
        soft = self.strength < 1 and have > 0 and index > 0
        old = staircase(sigmas, torch.zeros_like(before), steps, 0)
        if soft:
            old = old.clamp_max(1 - self.strength)
        elif not self.concat_conditioning:
            old = torch.full_like(old, self.context_noise if index or self.noise_given_frames else 0.0)
        fade = torch.linspace(0, 1, have + 2, dtype=torch.float64)[1:-1]
        return Window(
            frames=range(start, start + size),
            sigmas=torch.cat([old, staircase(sigmas, fresh, steps, self.ar_step)], 1),
            role=[self._role(soft)] * have + ["generate"] * (size - have),
            block=torch.cat([before, fresh + (int(before.max()) + 1 if have else 0)]).tolist(),
            cut=self._cut() if index else None,
            revisable=latents_of_frames(self.overlap, temporal_compression) if self.strength < 1 else 0,
            blend=torch.cat([fade, torch.ones(size - have)]) if soft else None,
            context_noise_mode=self.context_noise_mode,
            image_cond_noise_scale=self.image_cond_noise_scale,
        )

    def _cut(self) -> Cut | None:
        if self.handoff == "latents-in-place":
            return None
        return Cut(self.overlap, self.handoff, self.overlap_source, self.anchor)

    def _role(self, soft: bool) -> Role:
        return "concat" if self.concat_conditioning else "generate" if soft else "context"

    def _too_long(self, num_frames: int | None, temporal_compression: int, size: int, alone: bool) -> str:
        most = frames_of_latents(size, temporal_compression)
        other = "take a diffusion-forcing or image-to-video checkpoint" if alone else "use --strategy sliding"
        return f"one clip makes at most {most} frames here, not {num_frames}: ask for {most} or {other}"


@dataclass(frozen=True)
class _Shape:
    """The options in latent frames: the first window, the overlap, and the new frames of later windows.

    alone: the model takes no context frames. end, causal_positions: see `Limits`.
    """

    first: int
    overlap: int
    fresh: int
    alone: bool
    end: Literal["behind", "at"]
    causal_positions: bool

    def place(self, frame: int, temporal_compression: int) -> float | None:
        """Return the position of a given last frame; None if it stands behind the last latent."""
        return place_of_frame(frame, temporal_compression, self.causal_positions) if self.end == "at" else None

    @staticmethod
    def of(plan: SlidingWindow, temporal_compression: int, limits: Limits) -> _Shape:
        """Convert the options. Raise PlanError if frames do not fill latents, or are more than the model sees."""
        window, block = given.window_frames(plan.window, temporal_compression, limits), plan.causal_block_size
        if plan.overlap:
            given.require_whole("overlap", plan.overlap, temporal_compression)
        first = latents_of_frames(window, temporal_compression)
        overlap = latents_of_frames(plan.overlap, temporal_compression)
        fresh = (first - overlap) // block * block
        if not plan.single_window and fresh < 1:
            need = frames_of_latents(first - block, temporal_compression)
            raise PlanError(
                f"a window of {window} frames with an overlap of {plan.overlap} leaves no room for a new block of "
                f"{block} latent frames: use --overlap {need} or less, or a longer --window"
                if need > 0
                else f"a window of {window} frames holds no block of {block} latent frames: "
                "use a smaller --causal-block-size"
            )
        alone = limits.conditioning == "none"
        return _Shape(first, overlap, max(fresh, 1), alone, limits.end, limits.causal_positions)


def blocks(count: int, block: int) -> Tensor:
    """Return the block number of each of `count` frames: whole blocks, of which the first takes a rest more. (count,)

    25 frames in blocks of 5: 5 5 5 5 5. 25 frames in blocks of 4: a first block of 1 + 4, then 4 4 4 4 4.
    """
    import torch

    rest = count % block if count > block else 0
    if rest > 1:
        return torch.cat([torch.zeros(rest, dtype=torch.long), torch.arange(count - rest) // block + 1])
    return ((torch.arange(count) - rest) // block).clamp_min(0)


def _whole_blocks(count: int, block: int) -> int:
    """Return the most frames, `count` at most, that make whole blocks, or a first block of 1 + block and whole ones."""
    rest = count % block
    return count if rest <= 1 else count - rest


def _blocks_for(count: int, block: int, first: bool) -> int:
    """Return the fewest frames that hold `count` in whole blocks; the first window of a clip may have one more (1 + k)."""
    if first and count > 1 and (count - 1) % block == 0:
        return count
    return -(-count // block) * block
