"""Output frames into durable segments. Where a segment begins depends only on the frame number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
from torch import Tensor

from longtake.media import video_io
from longtake.runs.events import SegmentWritten
from longtake.runs.files import durable, journal, playlist
from longtake.runs.files.durable import FileDigest
from longtake.runs.files.errors import RunError, explained
from longtake.runs.files.journal import DIFFERENT, INIT, Journal, SegmentEntry
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import Manifest


class SegmentBuffer:
    """Collects frames in order and splits them into runs of `length` frames.

    first: number of the first pending frame. pending: frames (T, H, W, 3) that do not fill a segment yet, or None.
    """

    def __init__(self, length: int, first: int = 0, pending: Tensor | None = None):
        self.length, self.first = length, first
        self._parts = [] if pending is None else [pending]

    @property
    def waiting(self) -> int:
        """The number of frames that do not fill a segment yet."""
        return sum(len(part) for part in self._parts)

    @property
    def pending(self) -> Tensor | None:
        """The frames (T, H, W, 3) that do not fill a segment yet, or None."""
        return torch.cat(self._parts) if self._parts else None

    @property
    def held_bytes(self) -> int:
        """The bytes of memory that the pending frames keep alive."""
        return sum(part.untyped_storage().nbytes() for part in self._parts)

    def push(self, frames: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Add the next frames (T, H, W, 3); yield each full segment with the number of its first frame."""
        while len(frames):
            room = self.length - self.waiting
            self._parts.append(frames[:room].clone())
            frames = frames[room:]
            if self.waiting == self.length:
                yield from self.flush()

    def flush(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the pending frames as a segment, even a short one; only for the end of the video."""
        if self._parts:
            first, frames = self.first, torch.cat(self._parts)
            self.first, self._parts = first + len(frames), []
            yield first, frames


class SegmentWriter:
    """Writes the segments of a run from number `index` on: first the media file, then the journal, then the playlist.

    recorded: number of segments in the journal; when they are generated again, their bytes must be equal.
    keep_recorded: if their bytes differ (the user allowed a difference), keep the recorded files.
    """

    def __init__(
        self,
        layout: Layout,
        manifest: Manifest,
        open_journal: Journal,
        index: int = 0,
        recorded: int = 0,
        keep_recorded: bool = False,
    ):
        self.layout, self.manifest, self.journal = layout, manifest, open_journal
        self.index, self.recorded, self.keep_recorded = index, recorded, keep_recorded
        self._entries = journal.segments(layout.journal, start=index)
        self._init: FileDigest | None = None  # once init.mp4 is on disk and in the journal

    def put(self, first: int, frames: Tensor) -> SegmentWritten:
        """Encode frames (T, H, W, 3), the first of which has number `first`, and make the segment durable.

        Raises RunError if the disk or the encoder fails, or if a recorded segment comes out with other bytes.
        """
        with explained(self.layout.folder, f"writing segment {self.index} (frames from {first})"):
            encoded = video_io.encode(frames, first, self.manifest.fps, self.index, self.manifest.encoding)
            self._put_init(encoded.init)
            repeated = self.index < self.recorded
            put = self._put_recorded if repeated else self._put_new
            entry = put(first, len(frames), encoded.media)
        self.index += 1
        path = self.layout.segment(entry.index)
        return SegmentWritten(entry.index, entry.first, entry.frames, path, entry.bytes, entry.sha256, repeated)

    def _put_new(self, first: int, count: int, data: bytes) -> SegmentEntry:
        path = self.layout.segment(self.index)
        written = durable.write_file(path, [data])
        entry = SegmentEntry(self.index, first, count, path.name, written.bytes, written.sha256)
        self.journal.append_segment(entry)
        playlist.append(self.layout, self.manifest, playlist.item(entry, self.manifest.fps))
        return entry

    def _put_recorded(self, first: int, count: int, data: bytes) -> SegmentEntry:
        """Compare a segment that was generated again with the journal; restore its file if that is damaged."""
        entry = next(self._entries)
        found = durable.digest(data)
        same = found == entry.digest and (entry.first, entry.frames) == (first, count)
        if not same and not self.keep_recorded:
            raise RunError(
                f"segment {self.index} of {self.layout.folder} came out different from the recorded one (recorded "
                f"{entry.sha256[:12]}, now {found.sha256[:12]}): this machine does not repeat the run bit for bit; resume "
                "it on the machine where it was started, or keep the recorded segments with --allow segments"
            )
        if not same:
            facts = {"index": self.index, "sha256": entry.sha256, "generated": found.sha256}
            self.journal.append(DIFFERENT, facts)
        path = self.layout.segment(entry.index)
        if same and durable.file_digest(path) != found:
            durable.write_file(path, [data])
        return entry

    def _put_init(self, data: bytes) -> None:
        """Write init.mp4 once; afterwards it must stay the same."""
        found, path = durable.digest(data), self.layout.init
        if found == self._init:
            return
        recorded = journal.init_digest(self.layout.journal)
        if recorded not in (None, found):
            raise RunError(
                f"the video encoder here does not fit the segments of {self.layout.folder}: "
                "resume the run with the versions that run.json names"
            )
        if durable.file_digest(path) != found:
            durable.write_file(path, [data])
        if recorded is None:
            self.journal.append(INIT, asdict(found))
        self._init = found
