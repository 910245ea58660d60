"""The media of one run as viewers see them: its durable segments, read from the journal as it grows."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from longtake.runs.files import journal
from longtake.runs.files import manifest as manifests
from longtake.runs.files.errors import RunError
from longtake.runs.files.folder import existing_layout
from longtake.runs.files.journal import DONE, INIT, SEGMENT, START, VIDEO, Line


@dataclass(frozen=True)
class Place:
    """Where a byte of the video is: the file, the offset in it, and the bytes from there to its end."""

    path: Path
    offset: int
    left: int


class RunMedia:
    """The video of a run directory: init.mp4 and its segments, one behind the other. `refresh` reads what was appended.

    Keeps 8 bytes for each segment. Raises RunError if the folder is not a run directory, or holds links.
    """

    def __init__(self, folder: Path):
        self.layout = existing_layout(folder)
        self.manifest = manifests.load(self.layout.manifest)
        self._clear()

    def _clear(self) -> None:
        self._at = START
        self._ends = array("Q")  # bytes of the video up to the end of each segment
        self._init = 0  # bytes of init.mp4
        self._last_video: Line | None = None
        self.complete = False

    @property
    def fps(self) -> Fraction:
        """The frames per second."""
        return self.manifest.fps

    @property
    def segments(self) -> int:
        """The number of durable segments."""
        return len(self._ends)

    @property
    def frames(self) -> int:
        """The number of durable output frames."""
        return self._at.first

    @property
    def bytes(self) -> int:
        """The size of init.mp4 and all segments."""
        return self._ends[-1] if self._ends else 0

    def frames_in(self, segment: int) -> int:
        """Return the number of frames in a segment; only the last one may be short."""
        return min(self.manifest.segment, self.frames - segment * self.manifest.segment)

    def segment_at(self, seconds: float) -> int:
        """Return the number of the segment that shows a time of the video; the next one behind the durable frames."""
        frame = int(Fraction(seconds) * self.fps)
        return min(frame // self.manifest.segment, self.segments)

    @property
    def published(self) -> Line | None:
        """The journal line of video.mp4 if that file holds all durable segments."""
        line = self._last_video
        return line if line is not None and line["segments"] == self.segments else None

    def changed(self) -> bool:
        """Whether the journal has another length than what was read of it."""
        try:
            return os.stat(self.layout.journal).st_size != self._at.end
        except FileNotFoundError:
            return self._at.end != 0

    def refresh(self) -> None:
        """Read the lines that were appended to the journal. Raises RunError if it is damaged.

        Reads it from the start if a repair cut it back, whose segments come again with the same bytes.
        """
        start = self._at
        if start != START and (not self.layout.journal.exists() or self.layout.journal.stat().st_size < start.end):
            self._clear()
        try:
            self._read()
        except RunError:
            if start == START:
                raise
            self._clear()
            self._read()

    def _read(self) -> None:
        for at, line in journal.lines_after(self.layout.journal, self._at):
            if line["kind"] == INIT:
                self._init = line["bytes"]
            elif line["kind"] == SEGMENT:
                self._ends.append((self.bytes or self._init) + line["bytes"])
            elif line["kind"] in (VIDEO, DONE):
                self._last_video, self.complete = line, line["kind"] == DONE
            self._at = at

    def ends_at(self, offset: int) -> bool:
        """Whether these are all bytes that there were of the segments at some time."""
        index = bisect_left(self._ends, offset)
        return index < len(self._ends) and self._ends[index] == offset

    def locate(self, offset: int) -> Place:
        """Return where byte `offset` of init.mp4 and the segments is. offset: below `bytes`."""
        if offset < self._init:
            return Place(self.layout.init, offset, self._init - offset)
        index = bisect_right(self._ends, offset)
        start = self._ends[index - 1] if index else self._init
        return Place(self.layout.segment(index), offset - start, self._ends[index] - offset)

    def segment(self, index: int) -> Place:
        """Return where a whole segment is."""
        start = self._ends[index - 1] if index else self._init
        return Place(self.layout.segment(index), 0, self._ends[index] - start)

    @property
    def init(self) -> Place:
        """Where init.mp4 is."""
        return Place(self.layout.init, 0, self._init)


def read_place(place: Place, most: int) -> bytes:
    """Read up to `most` bytes from a place; links are not followed. Raises RunError if the file is shorter."""
    count = min(most, place.left)
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(place.path, flags), "rb") as file:
            file.seek(place.offset)
            data = file.read(count)
    except OSError as error:
        raise RunError(f"{place.path} cannot be read: {error.strerror}") from error
    if len(data) < count:
        raise RunError(f"{place.path} is shorter than the journal says")
    return data


def codec_string(init: bytes) -> str:
    """Return the codec of the video in init.mp4 as browsers name it, such as avc1.64001e: bytes 1 to 3 of the box avcC."""
    at = init.find(b"avcC")
    if at < 0 or len(init) < at + 8:
        raise RunError("init.mp4 holds no H.264 configuration (box avcC)")
    return f"avc1.{init[at + 5 : at + 8].hex()}"


def media_type(init: bytes) -> str:
    """Return the Content-Type of the video, which Media Source Extensions need with its codec."""
    return f'video/mp4; codecs="{codec_string(init)}"'
