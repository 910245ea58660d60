"""What a video begins with, comes to, or goes on from: pictures and videos, told to the engine in its own size and rate."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from longtake import media
from longtake.engine import Rollout
from longtake.events import Event, Frames
from longtake.models.base import Model
from longtake.models.presets import PRESETS, Kind
from longtake.pictures import Picture, fitted, opened, resampled, video_of
from longtake.plan import PlanError
from longtake.track import read

PIECE = 24  # frames of an earlier video that pass through at a time
KINDS = ("image", "end", "video", "track")
PLACES = ("frame", "frames", "first")  # what events call a frame of the video that is made


class Making(Protocol):
    """A video in the making: a `Rollout`, or one behind the frames of an earlier video."""

    def run(self) -> Iterator[Event]:
        """All events, from where it stands."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Rollout`."""

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """See `Rollout`."""


@dataclass(frozen=True)
class Told:
    """What the engine is told: see `Rollout` for start, extend, end and anchor. before: frames of the whole earlier video.

    track: rows (T, D) of what drives the new frames.
    """

    start: Tensor | None = None
    extend: bool = False
    end: Tensor | None = None
    before: int = 0
    track: Tensor | None = None
    anchor: Tensor | None = None

    @property
    def sha256(self) -> str:
        """Of the frames and the track, bit for bit."""
        sha = hashlib.sha256()
        asked = [one for one in (self.track, self.anchor) if one is not None]
        for frames in (self.start, self.end, *asked):
            sha.update(b"-" if frames is None else str(tuple(frames.shape)).encode() + frames.numpy().tobytes())
        return sha.hexdigest()


class Given:
    """Pictures, a video and a track as they were given: as files, or in memory.

    image: the first frame. end: the last one. video: what came before, a file or uint8 (T, H, W, 3) at the rate of the
    run. track: what drives the new frames, a file (see `track.read`) or rows (T, D). anchor: the picture with which all
    began, if that is not what is given first. PlanError if image and video are both there.
    """

    def __init__(
        self,
        image: Picture | None = None,
        end: Picture | None = None,
        video: Path | Tensor | None = None,
        track: Path | Tensor | None = None,
        anchor: Picture | None = None,
    ):
        if image is not None and video is not None:
            raise PlanError("a video begins with an image or goes on from a video, not both")
        self.image, self.end, self.video, self.track, self.anchor = image, end, video, track, anchor
        self._told: dict[Any, Told] = {}

    def __bool__(self) -> bool:
        return self.pictured or self.track is not None

    @property
    def pictured(self) -> bool:
        """Whether there is a picture or a video."""
        return any(one is not None for one in (self.image, self.end, self.video))

    @property
    def files(self) -> dict[str, Path]:
        """The files among them, by kind."""
        all_ = ((kind, getattr(self, kind)) for kind in KINDS)
        return {kind: Path(one) for kind, one in all_ if isinstance(one, str | Path)}

    @property
    def portrait(self) -> bool | None:
        """Whether the first picture of it is higher than wide; None if it is square, or there is none."""
        if not self.pictured:
            return None
        if self.video is None:
            width, height = opened(self.image if self.image is not None else self.end).size  # type: ignore[arg-type]
        else:
            height, width = next(self._shown(Fraction(1))).shape[:2]
        return None if height == width else height > width

    def told(self, size: tuple[int, int], rate: float, most: int, stride: int) -> Told:
        """What the engine is told, in frames of this (height, width) and rate.

        Of a video these are its last frames: as many as `most` that fill whole latents, 1 + stride * k, and its first
        one as the anchor. PlanError if something cannot be read.
        """
        key = (size, rate, most, stride)
        if key not in self._told:
            end = None if self.end is None else video_of(fitted(self.end, size)[None])
            image = None if self.image is None else video_of(fitted(self.image, size)[None])
            told = Told(image) if self.video is None else self._tail(size, rate, most, stride)
            rows = read(self.track, rate) if isinstance(self.track, Path) else self.track
            anchor = told.anchor if self.anchor is None else video_of(fitted(self.anchor, size)[None])
            self._told[key] = replace(told, end=end, track=rows, anchor=anchor)
        return self._told[key]

    def frames(self, size: tuple[int, int], rate: float) -> Iterator[Tensor]:
        """The whole earlier video, uint8 (T, H, W, 3) a few frames at a time, in constant memory."""
        shown = self._shown(Fraction(rate))
        while piece := [fitted(picture, size) for picture in islice(shown, PIECE)]:
            yield torch.stack(piece)

    def _tail(self, size: tuple[int, int], rate: float, most: int, stride: int) -> Told:
        last: deque[Tensor] = deque(maxlen=most)
        count, first = 0, None
        for picture in self._shown(Fraction(rate)):
            first = picture if first is None else first
            last.append(picture)
            count += 1
        if first is None:
            raise PlanError(f"{self.video if isinstance(self.video, Path) else 'the video'} has no frames")
        whole = 1 + (len(last) - 1) // stride * stride
        start = video_of(torch.stack([fitted(picture, size) for picture in list(last)[-whole:]]))
        return Told(start, True, before=count, anchor=video_of(fitted(first, size)[None]))

    def _shown(self, rate: Fraction) -> Iterator[Tensor]:
        """Frames of the video (H, W, 3) at the rate of the run, in their own size."""
        if isinstance(self.video, Tensor):
            return iter(self.video)
        assert self.video is not None
        return resampled(_read(Path(self.video)), rate)


def _read(path: Path) -> Iterator[tuple[Fraction, Tensor]]:
    if not path.is_file():
        raise PlanError(f"there is no video {path}: give the path of one")
    try:
        yield from media.read(path)
    except media.MediaError as error:
        raise PlanError(str(error)) from error


def able(model: Model, given: Given) -> None:
    """PlanError unless the model can be told of what is given; it names checkpoints that can."""
    if given.pictured and model.limits.context == "none":
        more = f", and others of them, such as {_such('i2v')}, a first picture" if given.end is None else ""
        raise PlanError(
            f"{model.name} is text to video and knows of no frames: diffusion-forcing checkpoints, such as {_such('df')}, "
            f"take pictures and videos{more}"
        )
    if given.end is not None and model.limits.context == "beside":
        raise PlanError(
            f"{model.name} is told of the first frames alone: for an end frame use a diffusion-forcing checkpoint, such as "
            f"{_such('df')}"
        )
    if given.end is not None and model.limits.causal:
        raise PlanError(
            f"{model.name} is block-causal and never sees what comes after a frame, so it takes no end frame"
        )


def _such(kind: Kind) -> str:
    return next(preset.name for preset in PRESETS.values() if preset.kind == kind)


class Continued:
    """A rollout behind the frames of the video that it goes on from: together one video, each frame once."""

    def __init__(self, rollout: Rollout, given: Given, before: int):
        self.rollout, self.given, self.before = rollout, given, before
        self.begun = False

    def run(self) -> Iterator[Event]:
        """See `Making`."""
        if not self.begun:
            yield from self._earlier()
        for event in self.rollout.run():
            places = [field.name for field in fields(event) if field.name in PLACES]
            yield replace(event, **{name: getattr(event, name) + self.before for name in places})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Making`: after a window the earlier video has passed."""
        return self.rollout.state()

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """See `Making`."""
        self.begun = True
        self.rollout.load(tensors, facts)

    def _earlier(self) -> Iterator[Frames]:
        first = 0
        for piece in self.given.frames(self.rollout.model.size, self.rollout.fps):
            yield Frames(first, video_of(piece))
            first += len(piece)
