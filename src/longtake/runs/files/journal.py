"""The journal, journal.jsonl: one JSON object per line, appended durably; an incomplete last line never counts.

Every line ends with a checksum of itself and the line before. The first line, and every line that lets a difference pass,
holds the SHA-256 of run.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longtake.core.platform import sync, sync_folder
from longtake.runs.files import durable
from longtake.runs.files.durable import FileDigest
from longtake.runs.files.errors import RunError, removed, resume_command
from longtake.runs.files.layout import segment_name
from longtake.runs.files.schema import RUN_SCHEMA, Keys, SchemaError, check_keys, check_schema, key
from longtake.runs.files.sealed import sealed, unsealed

Line = dict[str, Any]

HEADER, SEGMENT, INIT, DIFFERENT, ALLOWED = "journal", "segment", "init", "different", "differences_allowed"
EDIT, SCENE, VIDEO, DONE = "edit", "scene", "video", "done"
_VIDEO: Keys = {
    "segments": key("segments in video.mp4", int),
    "frames": key("output frames in video.mp4", int),
    "bytes": key("size of video.mp4", int),
    "sha256": key("SHA-256 of video.mp4", str),
    "sheet_sha256": key("SHA-256 of sheet.png", str),
}
_CUT = key("how the scene begins: true is a cut; or cut, anchor, resample", bool, str, None, optional=True)
JOURNAL_LINES: Mapping[str, Keys] = {
    HEADER: {
        "schema": key("schema number of the run directory", int),
        "run_sha256": key("SHA-256 of run.json", str),
    },
    SEGMENT: {
        "index": key("number of the segment, from 0", int),
        "first": key("output frame that the segment begins with", int),
        "frames": key("output frames in the segment", int),
        "file": key("file name in media/", str),
        "bytes": key("size of the file", int),
        "sha256": key("SHA-256 of the file", str),
    },
    INIT: {"bytes": key("size of media/init.mp4", int), "sha256": key("SHA-256 of media/init.mp4", str)},
    DIFFERENT: {
        "index": key("segment that a resume generated again with other bytes; the recorded file stays", int),
        "sha256": key("SHA-256 of the recorded file", str),
        "generated": key("SHA-256 of the bytes that were generated again", str),
    },
    ALLOWED: {
        "differences": key("list of {name, was, now} that --allow let pass on a resume", list),
        "run_sha256": key("SHA-256 of run.json from then on", str),
    },
    EDIT: {
        "id": key("id of the edit in edits.jsonl", str),
        "window": key("window before which the edit was decided", int),
        "refused": key("why the edit was refused", str, optional=True),
        "op": key("add, insert or replace", str, optional=True),
        "prompt": key("prompt of the scene", str, optional=True),
        "at": key("frame at which the scene begins, after an extended video", int, None, optional=True),
        "frames": key("length of the scene in output frames", int, None, optional=True),
        "cut": _CUT,
    },
    SCENE: {
        "frame": key("output frame from which on the next scene is generated", int),
        "window": key("window that generates it", int),
        "did": key("transition to the scene: keep, cut, anchor or resample", str),
        "distance": key("1 - cosine similarity of the prompt embeddings", float),
        "prompt": key("prompt of the scene", str),
    },
    VIDEO: _VIDEO,
    DONE: _VIDEO,
}  # the keys of every kind of line, beside "kind" and the checksum


@dataclass(frozen=True)
class SegmentEntry:
    """A durable segment: its number, its output frames first..first+frames-1, and the digest of its file."""

    index: int
    first: int
    frames: int
    file: str
    bytes: int
    sha256: str

    @property
    def digest(self) -> FileDigest:
        """The digest that its file must have."""
        return FileDigest(self.bytes, self.sha256)


@dataclass(frozen=True)
class Position:
    """A place between two lines of a journal, from which `lines_after` reads on.

    end: bytes before it. line: lines before it. index, first: number of the next segment and of its first output frame.
    check: checksum of the line before it.
    """

    end: int = 0
    line: int = 0
    index: int = 0
    first: int = 0
    check: str = ""


START = Position()


class Journal:
    """A journal that is open for appending. Opening it removes an incomplete last line.

    run_sha256: of run.json, for the first line of a new journal.
    """

    def __init__(self, path: Path, run_sha256: str = ""):
        at = START
        for at, _ in lines_after(path):  # noqa: B007, the last is used
            pass
        self._check = at.check
        durable.unshare(path)
        self.path, self.file = path, open(path, "ab", buffering=0)  # noqa: SIM115
        sync_folder(path.parent)
        if at.end != path.stat().st_size:
            self.file.truncate(at.end)
            sync(self.file.fileno())
        if not at.end:
            self.append(HEADER, {"schema": RUN_SCHEMA, "run_sha256": run_sha256})

    def append(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Append a line, which is durable on return. Raises SchemaError if its keys are not those of its kind.

        Raises RunError if the file was removed or replaced since it was opened.
        """
        check_keys(facts, JOURNAL_LINES[kind], f"a journal line of kind {kind}")
        self._check_in_place()
        line, check = sealed({"kind": kind, **facts}, self._check)
        durable.write_all(self.file, line)
        sync(self.file.fileno())
        self._check = check

    def _check_in_place(self) -> None:
        try:
            in_place = os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno()))
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise removed(self.path.parent, self.path)

    def append_segment(self, entry: SegmentEntry) -> None:
        """Append the line of a segment whose file is durable."""
        self.append(SEGMENT, asdict(entry))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def lines(path: Path, length: int | None = None) -> Iterator[Line]:
    """Yield the complete lines of a journal. Raises RunError if one is damaged.

    length: bytes up to which it is read, for a reader of a run that is growing (None: all).
    """
    return (line for _, line in lines_after(path, length=length))


def lines_of_kind(path: Path, kind: str, length: int | None = None) -> Iterator[Line]:
    """Yield the lines of one kind. length: as in `lines`."""
    return (line for line in lines(path, length) if line["kind"] == kind)


def segments(path: Path, start: int = 0, length: int | None = None) -> Iterator[SegmentEntry]:
    """Yield the segments from number `start` on, in order without gap, or raise RunError. length: as in `lines`."""
    entries = (_segment(line) for line in lines_of_kind(path, SEGMENT, length))
    return (entry for entry in entries if entry.index >= start)


def init_digest(path: Path, length: int | None = None) -> FileDigest | None:
    """Return the recorded digest of init.mp4; None before the first segment. length: as in `lines`."""
    line = next(lines_of_kind(path, INIT, length), None)
    return None if line is None else FileDigest(line["bytes"], line["sha256"])


def done_line(path: Path) -> Line | None:
    """Return the line that says that the video is complete; None while it is not."""
    return next(lines_of_kind(path, DONE), None)


def last_video(path: Path) -> Line | None:
    """Return the line of the last video.mp4 that was written; None if there is none."""
    last = None
    for line in lines(path):
        last = line if line["kind"] in (VIDEO, DONE) else last
    return last


def complete_length(path: Path) -> int:
    """Return the length in bytes of the complete lines that were durable when it is asked, damaged or not."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(len(raw) for raw in file if raw.endswith(b"\n"))


def sound_length(path: Path, strict: bool = True) -> int:
    """Return the length in bytes of the complete lines. strict=False: of the lines before the first damaged one."""
    at = START
    try:
        for at, _ in lines_after(path):  # noqa: B007, the last is returned
            pass
    except RunError:
        if strict:
            raise
    return at.end


def run_hashes(path: Path, length: int | None = None) -> list[str]:
    """Return the SHA-256 that run.json has, last, and the one that it has if the process died before it wrote run.json."""
    kinds = (HEADER, ALLOWED)
    return [line["run_sha256"] for line in lines(path, length) if line["kind"] in kinds][-2:]


def lines_after(path: Path, at: Position = START, length: int | None = None) -> Iterator[tuple[Position, Line]]:
    """Yield the complete lines behind a position, each with the position behind it. Raises RunError if one is damaged.

    Also if a segment does not follow the one before it. length: as in `lines`.
    """
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(at.end)
        for raw in file:
            if not raw.endswith(b"\n") or (length is not None and at.end + len(raw) > length):
                return  # incomplete: the process died while it wrote this line, or writes it now
            if not at.line:
                _check_version(path, raw)
            line, check = _parsed(raw, at.check)
            if line is None or (line["kind"] == SEGMENT and not _follows(_segment(line), at.index, at.first)):
                raise RunError(
                    f"{path} is damaged at line {at.line + 1}: {resume_command(path.parent, '--repair')} cuts it back to "
                    "the line before and generates the rest again"
                )
            index, first = at.index, at.first
            if line["kind"] == SEGMENT:
                index, first = line["index"] + 1, line["first"] + line["frames"]
            at = Position(at.end + len(raw), at.line + 1, index, first, check)
            yield at, line


def _check_version(path: Path, raw: bytes) -> None:
    """Raise RunError if the first line is that of another version of longtake."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if isinstance(line, dict) and line.get("kind") in list(JOURNAL_LINES):
        check_schema(path.parent, line.get("schema", 1) if line["kind"] == HEADER else 1)


def _parsed(raw: bytes, before: str) -> tuple[Line | None, str]:
    """Return the object of a line whose keys are those of its kind, and its checksum; None if it is damaged."""
    line, check = unsealed(raw, before) or ({}, "")
    if line.get("kind") not in list(JOURNAL_LINES):
        return None, check
    try:
        check_keys({k: v for k, v in line.items() if k != "kind"}, JOURNAL_LINES[line["kind"]], "line")
    except SchemaError:
        return None, check
    return line, check


def _segment(line: Line) -> SegmentEntry:
    return SegmentEntry(**{name: value for name, value in line.items() if name != "kind"})


def _follows(entry: SegmentEntry, index: int, first: int) -> bool:
    expected = (index, first, segment_name(index))
    return (entry.index, entry.first, entry.file) == expected and entry.frames > 0
