"""Decoded frames of clip after clip become one video: overlaps are dropped, withheld or cross-faded, ends are trimmed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.engine.events import Frames, to_uint8
from longtake.engine.finite_check import check_frames
from longtake.engine.state import present
from longtake.planning.window import Cut


@dataclass
class FrameAssembler:
    """Joins the decoded frames of clips into one video.

    shown: frames shown so far. next_frame: the number in the video of the next frame that is decoded. end: the number
    after the last frame of the shot (None: endless). withhold_from: frames from here on are withheld until the next clip
    has generated them again (None: none are). withheld: those frames. crossfade: an old overlap, mixed into the new one
    from frame crossfade_start on. tail: the last `tail_length` decoded frames, for the next cut. Videos are (B 3 T H W).
    """

    tail_length: int = 0
    shown: int = 0
    next_frame: int = 0
    end: int | None = None
    withhold_from: int | None = None
    withheld: Tensor | None = None
    crossfade: Tensor | None = None
    crossfade_start: int = 0
    tail: Tensor | None = None

    def push(self, video: Tensor) -> Iterator[Frames]:
        """Take decoded frames (B 3 T H W) in order; yields what may be shown. Raise NonFiniteError for NaN or infinity."""
        if not video.shape[2]:
            return
        check_frames(video, self.next_frame)
        first, self.next_frame = self.next_frame, self.next_frame + video.shape[2]
        self._keep_tail(video)
        if self.withhold_from is not None and self.next_frame > self.withhold_from:
            keep = video[:, :, max(0, self.withhold_from - first) :]
            self.withheld = keep.clone() if self.withheld is None else torch.cat([self.withheld, keep], 2)
        stop = min(x for x in (self.next_frame, self.end, self.withhold_from) if x is not None)
        if stop > self.shown:
            part = video[:, :, self.shown - first : stop - first]
            yield Frames(self.shown, self._crossfaded(part))
            self.shown = stop

    def release(self) -> Iterator[Frames]:
        """Show the frames that were withheld for a clip that will not come."""
        withheld, self.withheld, self.withhold_from = self.withheld, None, None
        if withheld is not None:
            yield Frames(self.shown, withheld)
            self.shown += withheld.shape[2]

    def overlap(self, cut: Cut) -> Tensor:
        """Return the end of the old clip as a cut hands it over, (B 3 overlap H W) in [-1, 1]."""
        if self.tail is None or self.tail.shape[2] < cut.overlap:
            have = 0 if self.tail is None else self.tail.shape[2]
            raise AssertionError(f"a cut needs {cut.overlap} frames of the clip before it, which has only {have}")
        video = self.tail[:, :, -cut.overlap :].clamp(-1, 1)
        if cut.handoff == "pixels-floor8":
            return ((video.float() + 1) * 127.5).floor() / 127.5 - 1
        return to_uint8(video).float() / 127.5 - 1 if cut.handoff == "pixels-uint8" else video

    def cut(self, cut: Cut) -> int:
        """Begin a clip that repeats the overlap; returns the number in the video of its first frame."""
        start = (self.next_frame if cut.overlap else self.shown) - cut.overlap
        self.next_frame, self.withhold_from = start, None
        self.crossfade, self.crossfade_start = self.withheld if cut.overlap_source == "blend" else None, start
        self.withheld = None
        if not cut.overlap:
            self.tail = None
        return start

    def _keep_tail(self, video: Tensor) -> None:
        if not self.tail_length:
            return
        missing = self.tail_length - video.shape[2]
        old = None if self.tail is None or missing <= 0 else self.tail[:, :, -missing:]
        new = video[:, :, -self.tail_length :]
        self.tail = new.clone() if old is None else torch.cat([old, new], 2)

    def _crossfaded(self, part: Tensor) -> Tensor:
        """Fade from the old overlap to its new version, linearly over the overlap."""
        if self.crossfade is None:
            return part
        length, done = self.crossfade.shape[2], self.shown - self.crossfade_start
        count = min(part.shape[2], length - done)
        weight = (torch.arange(done, done + count, device=part.device, dtype=part.dtype) + 1) / (length + 1)
        mixed = torch.lerp(self.crossfade[:, :, done : done + count], part[:, :, :count], weight[:, None, None])
        if done + count == length:
            self.crossfade = None
        return torch.cat([mixed, part[:, :, count:]], 2)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the frames that are kept and the position; the next window sets `end` and `withhold_from`."""
        tensors = present(withheld=self.withheld, crossfade=self.crossfade, tail=self.tail)
        return tensors, {"shown": self.shown, "next_frame": self.next_frame, "crossfade_start": self.crossfade_start}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.withheld, self.crossfade, self.tail = (tensors.get(name) for name in ("withheld", "crossfade", "tail"))
        self.shown, self.next_frame = facts["shown"], facts["next_frame"]
        self.crossfade_start, self.end, self.withhold_from = facts["crossfade_start"], None, None
