"""Where decoded frames leave: seams are dropped, held back or cross-faded, ends are trimmed, the tail is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.plan import Cut


@dataclass(frozen=True)
class Frames:
    """Output frames first, first + 1, ... of the video. video: (B 3 T H W), about [-1, 1], as decoded."""

    first: int
    video: Tensor

    @property
    def frames(self) -> Tensor:
        """(B, T, H, W, 3) uint8."""
        return to_uint8(self.video).permute(0, 2, 3, 4, 1)


def to_uint8(video: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded to nearest; frame by frame, so that no second video of floats is made."""
    whole = torch.empty(video.shape, dtype=torch.uint8, device=video.device)
    for frame, into in zip(video.unbind(2), whole.unbind(2)):
        into.copy_((frame.float() + 1).mul_(127.5).round_().clamp_(0, 255))
    return whole


@dataclass
class Outlet:
    """The decoded frames of take after take, made into one video.

    shown: frames shown so far. at: the number in the video of the next frame that the decoder gives. end: the number
    after the last frame of the shot (None: endless). hold_from: frames from here on are held back until the next take
    has made them anew. held: those frames. fading: an old seam that is cross-faded into the
    new one from frame fade_start on. tail: the last `tail_length` decoded frames, for the next cut.
    """

    tail_length: int = 0
    shown: int = 0
    at: int = 0
    end: int | None = None
    hold_from: int | None = None
    held: Tensor | None = None
    fading: Tensor | None = None
    fade_start: int = 0
    tail: Tensor | None = None

    def push(self, video: Tensor) -> Iterator[Frames]:
        """Decoded frames (B 3 T H W), in order; yields what may be shown."""
        if not video.shape[2]:
            return
        first, self.at = self.at, self.at + video.shape[2]
        if self.tail_length:
            missing = self.tail_length - video.shape[2]
            old = None if self.tail is None or missing <= 0 else self.tail[:, :, -missing:]
            new = video[:, :, -self.tail_length :]
            self.tail = new.clone() if old is None else torch.cat([old, new], 2)
        if self.hold_from is not None and self.at > self.hold_from:
            keep = video[:, :, max(0, self.hold_from - first) :]
            self.held = keep.clone() if self.held is None else torch.cat([self.held, keep], 2)
        stop = min(x for x in (self.at, self.end, self.hold_from) if x is not None)
        if stop > self.shown:
            part = video[:, :, self.shown - first : stop - first]
            yield Frames(self.shown, self._faded(part))
            self.shown = stop

    def release(self) -> Iterator[Frames]:
        """Show what was held back for a take that will not come."""
        held, self.held, self.hold_from = self.held, None, None
        if held is not None:
            yield Frames(self.shown, held)
            self.shown += held.shape[2]

    def _faded(self, part: Tensor) -> Tensor:
        """Cross-fade from the old seam to its new version, linearly over the seam."""
        if self.fading is None:
            return part
        length, done = self.fading.shape[2], self.shown - self.fade_start
        count = min(part.shape[2], length - done)
        weight = (torch.arange(done, done + count, device=part.device, dtype=part.dtype) + 1) / (length + 1)
        mixed = torch.lerp(self.fading[:, :, done : done + count], part[:, :, :count], weight[:, None, None])
        if done + count == length:
            self.fading = None
        return torch.cat([mixed, part[:, :, count:]], 2)

    def seam(self, cut: Cut) -> Tensor:
        """The end of the old take as the new one is told of it, (B 3 seam H W) in [-1, 1]."""
        if self.tail is None or self.tail.shape[2] < cut.seam:
            have = 0 if self.tail is None else self.tail.shape[2]
            raise AssertionError(f"a cut needs {cut.seam} frames of the take before it, which has only {have}")
        video = self.tail[:, :, -cut.seam :].clamp(-1, 1)
        if cut.hand == "floor8":
            return ((video.float() + 1) * 127.5).floor() / 127.5 - 1
        return to_uint8(video).float() / 127.5 - 1 if cut.hand == "pixels8" else video

    def cut(self, cut: Cut) -> int:
        """Begin a new take that repeats the seam; returns the number in the video of its first frame."""
        start = (self.at if cut.seam else self.shown) - cut.seam
        self.at, self.hold_from = start, None
        self.fading, self.fade_start = self.held if cut.keep == "blend" else None, start
        self.held = None
        if not cut.seam:
            self.tail = None
        return start

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, as tensors and facts."""
        parts = dict(held=self.held, fading=self.fading, tail=self.tail)
        tensors = {name: value for name, value in parts.items() if value is not None}
        return tensors, {"shown": self.shown, "at": self.at, "fade_start": self.fade_start}

    @staticmethod
    def restored(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], tail_length: int) -> Outlet:
        """Undo `state`."""
        parts: dict[str, Any] = {**tensors, **facts}
        return Outlet(tail_length, **parts)
