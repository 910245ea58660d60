"""A new video behind the frames of an earlier one: both together are one video, and every frame occurs once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

from torch import Tensor

from longtake.engine.events import Event, Frames
from longtake.engine.rollout import Rollout
from longtake.media.images import frames_to_video

FRAME_NUMBERS = ("frame", "frames", "first")  # fields of events that count output frames


class Generation(Protocol):
    """A video while it is generated: a `Rollout`, or a `VideoExtension`."""

    def run(self) -> Iterator[Event]:
        """Generate the rest of the video and yield all events."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that a resume needs, as tensors and JSON values; valid after a window."""

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Continue from a saved state."""


class VideoExtension:
    """A rollout behind the video that it extends.

    earlier_frames: gives that video piece by piece, uint8 (T, H, W, 3). before: the number of its frames, by which all
    frame numbers of the rollout are shifted.
    """

    def __init__(self, rollout: Rollout, earlier_frames: Callable[[], Iterator[Tensor]], before: int):
        self.rollout, self.earlier_frames, self.before = rollout, earlier_frames, before
        self.started = False

    def run(self) -> Iterator[Event]:
        """Yield the frames of the earlier video, then all events of the rollout."""
        if not self.started:
            yield from self._earlier()
        for event in self.rollout.run():
            numbers = [field.name for field in fields(event) if field.name in FRAME_NUMBERS]
            yield replace(event, **{name: getattr(event, name) + self.before for name in numbers})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state of the rollout: by the end of a window the earlier video was shown."""
        return self.rollout.state()

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Continue the rollout from a saved state."""
        self.started = True
        self.rollout.load(tensors, facts)

    def _earlier(self) -> Iterator[Frames]:
        first = 0
        for piece in self.earlier_frames():
            yield Frames(first, frames_to_video(piece))
            first += len(piece)
