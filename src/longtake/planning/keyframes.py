"""Keyframes: images and clips at any frame of a video, for every strategy without cuts.

A keyframe is conditioned as published for LTX-Video: at the first frame of the video it is context, in place. An image
elsewhere is a keyframe column at its frame. Of a clip elsewhere the first two latents, which a causal VAE makes of fewer
frames, are keyframe columns; the rest is in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.geometry import frames_of_latents, latent_of_frame, latents_of_frames, place_of_frame
from longtake.core.sigmas import SigmaSchedule
from longtake.planning.keyframe_columns import KeyframeColumn, with_keyframes
from longtake.planning.limits import Limits
from longtake.planning.script import Script
from longtake.planning.window import LatentSource, Plan, PlanTraits, Window

LEADING = 2  # latents at the start of a clip that hold fewer frames than they would inside a video


@dataclass(frozen=True)
class Keyframe:
    """An image or a clip (B, 3, T, H, W) in [-1, 1] at an output frame of the video. strength 1 keeps it as it is."""

    frame: int
    frames: Tensor
    strength: float = 1.0


@dataclass(frozen=True)
class KeyframeSpan:
    """The place of a keyframe. frame: its first output frame. latents: how many. strength: 1 keeps it as it is."""

    frame: int
    latents: int
    strength: float = 1.0

    def __post_init__(self):
        if not 0 < self.strength <= 1:
            raise PlanError(f"the strength of a keyframe must lie in (0, 1], not {self.strength}")
        if self.frame < 0:
            raise PlanError(f"a keyframe stands at an output frame from 0 on, not at {self.frame}")


def plan_with_keyframes(
    plan: Plan, keyframes: Sequence[Keyframe], script: Script, temporal_compression: int, start_offset: int = 0,
    soft_on_schedule: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan with keyframes. start_offset: output frames before the video that the plan counts too.

    soft_on_schedule: a keyframe of strength below 1 starts at the next sigma of the schedule (see `Window.on_schedule`).

    Raise PlanError if the script has cuts.
    """
    if any(scene.cut for scene in script.scenes):
        raise PlanError("keyframes cannot be used in a video with cuts: generate a video for each shot")
    spans = [
        KeyframeSpan(
            start_offset + keyframe.frame,
            latents_of_frames(keyframe.frames.shape[2], temporal_compression),
            keyframe.strength,
        )
        for keyframe in keyframes
    ]
    return KeyframedPlan(plan, tuple(spans), soft_on_schedule)


@dataclass(frozen=True)
class KeyframedPlan:
    """A plan whose windows see the keyframes that stand among the frames they generate."""

    plan: Plan
    spans: tuple[KeyframeSpan, ...]
    soft_on_schedule: bool = False

    @property
    def schedule(self) -> SigmaSchedule:
        """The sigmas through which a frame is denoised."""
        return self.plan.schedule

    @property
    def traits(self) -> PlanTraits:
        """What the engine and the estimates need to know."""
        return self.plan.traits

    def windows(
        self,
        num_frames: int | None,
        temporal_compression: int,
        limits: Limits,
        given_latents: int = 0,
        end_latents: int = 0,
    ) -> Iterator[Window]:
        """Give the windows (see `Plan`). Raise PlanError if a keyframe is not at whole latents, or at a frame of the video."""
        self._check(num_frames, temporal_compression, limits)
        first = done = 0  # output frame at which the clip starts; its latents so far
        for window in self.plan.windows(num_frames, temporal_compression, limits, given_latents, end_latents):
            if window.cut is not None:
                first, done = first + frames_of_latents(done, temporal_compression) - window.cut.overlap, 0
            done = max(done, 1 + max(f for f, role in zip(window.frames, window.role) if role != "keyframe"))
            yield self._with_spans(window, first, temporal_compression, limits.causal_positions)

    def _check(self, num_frames: int | None, temporal_compression: int, limits: Limits) -> None:
        if limits.conditioning != "inpaint" or not limits.per_frame_sigma or limits.causal:
            raise PlanError("this model takes images at the first and the last frame of a video, not at others")
        for span in self.spans:
            if span.latents > 1 and span.frame % temporal_compression:
                near = round(span.frame / temporal_compression) * temporal_compression
                raise PlanError(
                    f"a clip as keyframe must start at a multiple of {temporal_compression} frames, "
                    f"not at {span.frame}: use {near}"
                )
            if num_frames is not None and span.frame >= num_frames:
                raise PlanError(
                    f"a keyframe at frame {span.frame} lies behind the end of a video of {num_frames} frames: "
                    "use an earlier frame"
                )

    def _with_spans(self, window: Window, first: int, temporal_compression: int, causal: bool) -> Window:
        """Return the window with the keyframes among the frames it generates.

        first: the output frame of its clip. causal: see `Limits.causal_positions`.
        """
        columns: list[KeyframeColumn] = []
        columns_of = zip(window.frames, window.moves.tolist(), window.role)
        generated = {f for f, moves, role in columns_of if moves and role != "keyframe"}
        shift = window.positions[0] - window.frames[0]
        for number, span in enumerate(self.spans):
            at = span.frame - first
            end = at + frames_of_latents(span.latents, temporal_compression) - 1
            within = range(latent_of_frame(at, temporal_compression), latent_of_frame(end, temporal_compression) + 1)
            if end < 0 or not generated & set(within):
                continue
            leads = 0 if at == 0 else min(LEADING, span.latents)
            for j in range(leads):
                later = j if causal else j * temporal_compression  # a latent by itself begins a causal VAE's clip anew
                position = place_of_frame(at + later, temporal_compression, causal)
                columns.append(KeyframeColumn(LatentSource("keyframe", j, number), position + shift, span.strength))
            for j in range(leads, span.latents):
                frame = at // temporal_compression + j
                if frame in generated:
                    window = in_place(window, frame, LatentSource("keyframe", j, number), span.strength)
        window = with_keyframes(window, columns)
        if not self.soft_on_schedule:
            return window
        soft = [f for f, source in window.sources.items() if source.kind == "keyframe" and self._soft(source)]
        return replace(window, on_schedule=soft)

    def _soft(self, source: LatentSource) -> bool:
        return self.spans[source.keyframe].strength < 1


def in_place(window: Window, frame: int, source: LatentSource, strength: float) -> Window:
    """Return the window with one of its frames started from a given value at sigma 1 - strength; at 1 it is context."""
    i = window.frames.index(frame)
    sigmas, role = window.sigmas.clone(), list(window.role)
    sigmas[:, i] = sigmas[:, i].clamp_max(1 - strength)
    if strength == 1:
        role[i] = "context"
    blend = window.blend
    if blend is not None:
        blend = torch.where(torch.arange(len(blend)) == i, 1.0, blend)
    return replace(window, sigmas=sigmas, role=role, blend=blend, sources={**window.sources, frame: source})
