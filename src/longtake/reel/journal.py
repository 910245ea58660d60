"""The journal: one JSON object per line, appended and made durable; a torn last line never counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longtake.reel import disk
from longtake.reel.disk import ReelError, Written
from longtake.reel.layout import segment_name

Line = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A durable segment: its number, its output frames first..first+frames-1, and what its file holds."""

    index: int
    first: int
    frames: int
    file: str
    bytes: int
    sha256: str

    @property
    def written(self) -> Written:
        """What its file must hold."""
        return Written(self.bytes, self.sha256)


class Journal:
    """An open journal. Opening it repairs a torn end; `size` is its length in bytes."""

    def __init__(self, path: Path):
        self.path, whole = path, sound(path)
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115
        disk.sync(path.parent)
        if whole != path.stat().st_size:
            self.file.truncate(whole)
            os.fsync(self.file.fileno())

    def append(self, kind: str, facts: Mapping[str, Any]) -> None:
        """One line, durable on return."""
        line = json.dumps({"kind": kind, **facts}, ensure_ascii=False, separators=(",", ":"))
        disk.put(self.file, line.encode() + b"\n")
        os.fsync(self.file.fileno())

    def add(self, entry: Entry) -> None:
        """A segment that is durable."""
        self.append("segment", asdict(entry))

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def lines(path: Path) -> Iterator[Line]:
    """The whole lines of a journal, one at a time. ReelError if one in the middle cannot be read."""
    return (line for _, line in _walk(path))


def segments(path: Path, start: int = 0) -> Iterator[Entry]:
    """The segments of a journal from number `start` on, in order without gap, or ReelError."""
    entries = (_entry(line) for line in lines(path) if line["kind"] == "segment")
    return (entry for entry in entries if entry is not None and entry.index >= start)


def init(path: Path) -> Written | None:
    """What the journal says of the part that all segments share."""
    line = next(notes(path, "init"), None)
    return None if line is None else Written(line["bytes"], line["sha256"])


def published(path: Path) -> Line | None:
    """What the journal says of video.mp4 as it was last made."""
    last = None
    for line in lines(path):
        last = line if line["kind"] in ("video", "done") else last
    return last


def notes(path: Path, kind: str) -> Iterator[Line]:
    """The lines of one kind."""
    return (line for line in lines(path) if line["kind"] == kind)


def sound(path: Path, strict: bool = True) -> int:
    """Length in bytes of the whole lines. Not strict: of those before the first that is damaged."""
    length = 0
    try:
        for end, _ in _walk(path):
            length = end
    except ReelError:
        if strict:
            raise
    return length


def _walk(path: Path) -> Iterator[tuple[int, Line]]:
    """Every whole line and the offset after it; segments must follow one another."""
    if not path.exists():
        return
    size, end, index, first = path.stat().st_size, 0, 0, 0
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            end += len(raw)
            line = _parsed(raw)
            if line is None and end >= size:
                return  # torn
            entry = _entry(line) if line else None
            if line is None or (line["kind"] == "segment" and not _follows(entry, index, first)):
                raise ReelError(
                    f"{path} is damaged at line {number}: {disk.resume(path.parent, '--repair')} goes back to the "
                    "line before it and makes the rest again"
                )
            if entry:
                index, first = entry.index + 1, entry.first + entry.frames
            yield end, line


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("kind"), str) else None


def _entry(line: Line) -> Entry | None:
    """The segment of a line; None if the line is something else."""
    try:
        return Entry(**{key: value for key, value in line.items() if key != "kind"})
    except TypeError:
        return None


def _follows(entry: Entry | None, index: int, first: int) -> bool:
    place = (index, first, segment_name(index))
    return entry is not None and (entry.index, entry.first, entry.file) == place and entry.frames > 0
