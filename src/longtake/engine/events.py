"""Events that a rollout yields while it generates a video."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from longtake.planning.scene_changes import SceneChanged
from longtake.planning.window import Window


@dataclass(frozen=True)
class WindowStarted:
    """Window `index` begins. frames: output frames shown before it. steps: model calls that it takes, in all stages."""

    index: int
    window: Window = field(repr=False)
    frames: int
    steps: int


@dataclass(frozen=True)
class StepDone:
    """Step `step` of `steps` of window `index` is done, counted through all stages. stage: 0 is the first resolution.

    latents: (B C F h w) after the step, which a change in place would change; sigmas: (F,), what they still hold.
    """

    index: int
    step: int
    steps: int
    stage: int = 0
    latents: Tensor | None = field(default=None, repr=False, compare=False)
    sigmas: Tensor | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Frames:
    """Output frames first, first + 1, ... of the video. video: (B 3 T H W), about [-1, 1], as decoded."""

    first: int
    video: Tensor = field(repr=False)

    def __repr__(self) -> str:
        return f"Frames(first={self.first}, video={tuple(self.video.shape)})"

    @property
    def frames(self) -> Tensor:
        """The frames as (B, T, H, W, 3) uint8."""
        return to_uint8(self.video).permute(0, 2, 3, 4, 1)


@dataclass(frozen=True)
class WindowDone:
    """Window `index` is done and `frames` output frames have been shown: the only points at which `state` may be taken.

    latents: (B C F h w) that this window finished, as they are before decoding.
    """

    index: int
    frames: int
    latents: Tensor | None = field(default=None, repr=False, compare=False)


Event = WindowStarted | StepDone | Frames | WindowDone | SceneChanged


def to_uint8(video: Tensor) -> Tensor:
    """Convert [-1, 1] to 0..255, rounded to nearest; frame by frame, so that no second float video is held."""
    whole = torch.empty(video.shape, dtype=torch.uint8, device=video.device)
    for frame, into in zip(video.unbind(2), whole.unbind(2)):
        into.copy_((frame.float() + 1).mul_(127.5).round_().clamp_(0, 255))
    return whole
