"""Images and clips at any frame: any plan, whose windows are told of what is given where they make it.

Published rules (LTX-Video): what stands at the first frame is in place. A picture elsewhere is a guide that stands at its
frame. Of a clip elsewhere the first two latents, which a causal codec makes of fewer frames, are guides; the rest is
in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from longtake.geometry import frames_of_latents, latent_of_frame, latents_of_frames, place_of_frame
from longtake.plan import Guide, Limits, PlanError, Source, Window, guided
from longtake.plans import Plan
from longtake.script import Script

LEADING = 2  # latents of a clip that stand for fewer frames than they would inside a video


@dataclass(frozen=True)
class Place:
    """Where something given stands. frame: its first output frame; latents: how many; strength: 1 holds it as it is."""

    frame: int
    latents: int
    strength: float = 1.0

    def __post_init__(self):
        if not 0 < self.strength <= 1:
            raise PlanError(f"a strength lies in (0, 1], not {self.strength}")
        if self.frame < 0:
            raise PlanError(f"what is given stands at a frame from 0 on, not at {self.frame}")


@dataclass(frozen=True)
class Conditioned:
    """A plan that follows what is given at some frames of a video without cuts."""

    plan: Plan
    places: tuple[Place, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plan, name)

    @property
    def seam(self) -> int:
        """See `Plan`."""
        return self.plan.seam

    def windows(
        self, frames: int | None, stride: int, limits: Limits, known: int = 0, guides: int = 0
    ) -> Iterator[Window]:
        """See `Plan`. PlanError if a clip does not stand at a whole latent, or nothing is made where it stands."""
        self._check(frames, stride, limits)
        first = done = 0  # output frame at which the take begins; its latents so far
        for window in self.plan.windows(frames, stride, limits, known, guides):
            if window.cut is not None:
                first, done = first + frames_of_latents(done, stride) - window.cut.seam, 0
            done = max(done, 1 + max(f for f, role in zip(window.frames, window.role) if role != "guide"))
            yield self._told(window, first, stride)

    def _check(self, frames: int | None, stride: int, limits: Limits) -> None:
        if limits.context != "in place" or not limits.mixed or limits.causal:
            raise PlanError("this model takes pictures only where a video begins or ends")
        for place in self.places:
            if place.latents > 1 and place.frame % stride:
                near = round(place.frame / stride) * stride
                raise PlanError(f"a clip stands at a multiple of {stride} frames, not at {place.frame}: use {near}")
            if frames is not None and place.frame >= frames:
                raise PlanError(
                    f"nothing is made at frame {place.frame} of a video of {frames} frames: give one before"
                )

    def _told(self, window: Window, first: int, stride: int) -> Window:
        """The window with what stands among the frames that it makes. first: the output frame of its take."""
        guides: list[Guide] = []
        makes = {
            f for f, moves, role in zip(window.frames, window.moves.tolist(), window.role) if moves and role != "guide"
        }
        shift = window.positions[0] - window.frames[0]
        for number, place in enumerate(self.places):
            at = place.frame - first
            end = at + frames_of_latents(place.latents, stride) - 1
            if end < 0 or not makes & set(range(latent_of_frame(at, stride), latent_of_frame(end, stride) + 1)):
                continue
            leads = 0 if at == 0 else min(LEADING, place.latents)
            for j in range(leads):
                position = place_of_frame(at + j, stride)
                guides.append(Guide(Source("item", j, number), position + shift, place.strength))
            for j in range(leads, place.latents):
                frame = at // stride + j
                if frame in makes:
                    window = in_place(window, frame, Source("item", j, number), place.strength)
        return guided(window, guides)


def in_place(window: Window, frame: int, source: Source, strength: float) -> Window:
    """The window with one of its frames begun from a given value at level 1 - strength; at strength 1 it stays there."""
    i = window.frames.index(frame)
    levels, role = window.levels.clone(), list(window.role)
    levels[:, i] = levels[:, i].clamp_max(1 - strength)
    if strength == 1:
        role[i] = "context"
    blend = window.blend
    if blend is not None:
        blend = torch.where(torch.arange(len(blend)) == i, 1.0, blend)
    return replace(window, levels=levels, role=role, blend=blend, sources={**window.sources, frame: source})


@dataclass(frozen=True)
class Item:
    """A picture or a clip (B 3 T H W) in [-1, 1] that stands at an output frame of the video. strength 1 holds it."""

    frame: int
    frames: Tensor
    strength: float = 1.0


def conditioned(plan: Plan, items: Sequence[Item], script: Script, stride: int, before: int = 0) -> Plan:
    """The plan with what is given at some frames of a video behind `before` known ones. PlanError if it has cuts."""
    if any(scene.cut for scene in script.scenes):
        raise PlanError("pictures at frames of a video with cuts: give each shot a video of its own")
    places = [
        Place(before + item.frame, latents_of_frames(item.frames.shape[2], stride), item.strength) for item in items
    ]
    return Conditioned(plan, tuple(places))
