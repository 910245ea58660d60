"""Input frames and a control signal, in the size and frame rate of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from longtake.core.errors import PlanError
from longtake.core.finite import is_finite
from longtake.engine.control import ControlSignal
from longtake.planning.keyframes import Keyframe

ReadFrames = Callable[[int, int], Tensor]  # (first, count) -> frames (1 3 count H W) in [-1, 1]


@dataclass(frozen=True)
class RolloutInputs:
    """Frames (B 3 T H W) in [-1, 1], and a control signal.

    start: the first frames of the video, T = 1 + temporal_compression * k. extend: they are the end of a video that was
    shown before, so the script begins after them. anchor: the first frame of that video (T = 1), if it is not the first
    of `start`. end: the last frame of the video (T = 1). keyframes: images and clips at any frame. control: a signal with
    values for every output frame. source: reads the output frames of a video from which new frames start, for a plan whose
    windows ask for them (see `longtake.planning.video_to_video`).
    """

    start: Tensor | None = None
    extend: bool = False
    anchor: Tensor | None = None
    end: Tensor | None = None
    keyframes: Sequence[Keyframe] = ()
    control: ControlSignal | None = None
    source: ReadFrames | None = None

    def check(self) -> None:
        """Raise PlanError if an image or a video holds NaN or infinity."""
        named = {"the first frames": self.start, "the anchor image": self.anchor, "the last image": self.end}
        named |= {f"the keyframe at frame {each.frame}": each.frames for each in self.keyframes}
        for name, frames in named.items():
            if frames is not None and not is_finite(frames):
                raise PlanError(f"{name} of the video hold NaN or infinity: give pixels from -1 to 1")

    @property
    def start_offset(self) -> int:
        """Output frames of `start` that precede the script."""
        return self.start.shape[2] if self.start is not None and self.extend else 0
