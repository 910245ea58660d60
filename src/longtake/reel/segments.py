"""Frames into durable segments. Where a segment begins depends on the frame number only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake import media
from longtake.reel import disk, journal, playlist
from longtake.reel.disk import ReelError, Written
from longtake.reel.journal import Entry, Journal
from longtake.reel.layout import Layout
from longtake.reel.manifest import Manifest


@dataclass(frozen=True)
class Segment:
    """A segment is on disk for good: anyone may be told of it. again: it was there before a resume, and came out equal."""

    index: int
    first: int
    frames: int
    path: Path
    bytes: int
    sha256: str
    again: bool = False


class Cutter:
    """Frames in order, cut into runs of `length`. first: the number of the first frame that is pending."""

    def __init__(self, length: int, first: int = 0, pending: Tensor | None = None):
        self.length, self.first = length, first
        self.parts = [] if pending is None else [pending]

    @property
    def waiting(self) -> int:
        """Frames that do not fill a segment yet."""
        return sum(len(part) for part in self.parts)

    @property
    def pending(self) -> Tensor | None:
        """Those frames, (T H W 3), or None."""
        return torch.cat(self.parts) if self.parts else None

    def push(self, frames: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Frames (T H W 3) that follow; yields every full segment with the number of its first frame."""
        while len(frames):
            room = self.length - self.waiting
            self.parts.append(frames[:room].clone())
            frames = frames[room:]
            if self.waiting == self.length:
                yield from self.flush()

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        """What is pending as a segment, short or not: only at the end of the video."""
        if self.parts:
            first, frames = self.first, torch.cat(self.parts)
            self.first, self.parts = first + len(frames), []
            yield first, frames


class Shelf:
    """Writes segments of a reel, from number `index` on: media file, journal, playlist, in this order.

    known: segments that the journal holds already; made again, they must come out equal.
    keep: if they do not (something was allowed to differ), the recorded ones stay.
    """

    def __init__(
        self, layout: Layout, manifest: Manifest, book: Journal, index: int = 0, known: int = 0, keep: bool = False
    ):
        self.layout, self.manifest, self.journal = layout, manifest, book
        self.index, self.known, self.keep = index, known, keep
        self.recorded = journal.segments(layout.journal, start=index)
        self.init: Written | None = None  # once it is known to be on disk and in the journal

    def put(self, first: int, frames: Tensor) -> Segment:
        """Make a segment of frames (T H W 3) durable."""
        with disk.explained(self.layout.folder, f"writing segment {self.index} (frames from {first})"):
            made = media.encode(frames, first, self.manifest.fps, self.index, self.manifest.encoding)
            self._init(made.init)
            again = self.index < self.known
            entry = self._again(first, frames, made.media) if again else self._new(first, frames, made.media)
        self.index += 1
        path = self.layout.segment(entry.index)
        return Segment(entry.index, entry.first, entry.frames, path, entry.bytes, entry.sha256, again)

    def _new(self, first: int, frames: Tensor, data: bytes) -> Entry:
        path = self.layout.segment(self.index)
        written = disk.write(path, [data])
        entry = Entry(self.index, first, len(frames), path.name, written.bytes, written.sha256)
        self.journal.add(entry)
        playlist.append(self.layout.playlist, playlist.item(entry, self.manifest.fps))
        return entry

    def _again(self, first: int, frames: Tensor, data: bytes) -> Entry:
        entry = next(self.recorded)
        made = disk.digest(data)
        same = made == entry.written and (entry.first, entry.frames) == (first, len(frames))
        if not same and not self.keep:
            raise ReelError(
                f"segment {self.index} of {self.layout.folder} came out different from what was recorded (was "
                f"{entry.sha256[:12]}, now {made.sha256[:12]}): this machine does not repeat the run bit for bit; go on "
                "where it was begun, or keep what is recorded and go on here with --allow segments"
            )
        if not same:
            self.journal.append("kept", {"index": self.index, "sha256": entry.sha256, "made": made.sha256})
        path = self.layout.segment(entry.index)
        if same and disk.measure(path) != made:
            disk.write(path, [data])
        return entry

    def _init(self, data: bytes) -> None:
        """The part that all segments share is written once and must stay the same."""
        made, path = disk.digest(data), self.layout.init
        if made == self.init:
            return
        note = journal.init(self.layout.journal)
        if note not in (None, made):
            raise ReelError(
                f"the encoder here does not fit the segments of {self.layout.folder}: "
                "go on with the versions that run.json names"
            )
        if disk.measure(path) != made:
            disk.write(path, [data])
        if note is None:
            self.journal.append("init", asdict(made))
        self.init = made
