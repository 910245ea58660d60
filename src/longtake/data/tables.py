"""Captions that people wrote: a .txt beside each video, or one .csv or .jsonl table for the folder.

A table has a column (or key) `file` and either `caption` or parts of the schema (see caption.Caption). With `start`, in
seconds from the beginning of a video, it has a row for every time from which on another caption holds. Everything wrong with a
table is told at once, line by line, before any video is touched.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from longtake.data.caption import Caption, CaptionError, tidy

FILE = ("file", "filename", "file_name", "video", "path")
TEXT = ("caption", "text", "prompt", "description", "video_description")
TABLES = (".csv", ".jsonl")
Line = tuple[int, "Mapping[str, Any] | str"]  # number, and the values by column or what is wrong
MOST = 12  # faults that are told at once


class TableError(ValueError):
    """A table of captions with faults; the message names their lines."""


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    line: int
    file: str
    caption: Caption
    start: float = 0.0


@dataclass
class Table:
    """The captions of a folder: of every video in the table, (seconds from its beginning, what it shows from then on), in
    order, and the line of its first row. strangers: "line n: file" of rows whose video is not there; ignored: unused columns."""

    path: Path | None = None
    captions: dict[str, list[tuple[float, Caption]]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def find_table(folder: Path, videos: Sequence[str] = ()) -> Path | None:
    """The one table at the top of a folder that is not called as a video beside it. TableError if there are several."""
    own = {PurePosixPath(video).with_suffix("").as_posix() for video in videos}
    here = (p for p in folder.iterdir() if p.suffix.lower() in TABLES and not p.name.startswith("."))
    found = sorted(p for p in here if p.stem not in own)
    if len(found) > 1:
        raise TableError(
            f"{folder} holds several tables ({', '.join(p.name for p in found)}): say which with --captions"
        )
    return found[0] if found else None


def read_table(path: Path, videos: Sequence[str], encoding: str = "utf-8") -> Table:
    """A table, matched with videos (paths relative to the folder). TableError tells its faults, line by line."""
    text = decoded(path, encoding)
    columns: list[str] = []
    parse = _jsonl if path.suffix.lower() == ".jsonl" else _csv
    if path.suffix.lower() not in TABLES:
        raise TableError(f"{path.name} is no table of captions: give a .csv or a .jsonl file")
    table, faults, names = Table(path), [], _Names(videos)
    for line, values in parse(text, columns, path.name):
        try:
            row = _row(line, values)
            video = names.find(row.file)
            if video is None:
                table.strangers.append(f"line {line}: {row.file}")
            elif row.start in (start for start, _ in table.captions.get(video, ())):
                raise CaptionError(f"{row.file} has a caption already, in line {table.lines[video]}")
            else:
                table.captions.setdefault(video, []).append((row.start, row.caption))
                table.lines.setdefault(video, line)
        except CaptionError as error:
            faults.append(f"line {line}: {error}")
    if faults:
        more = f"\n  and {len(faults) - MOST} more" if len(faults) > MOST else ""
        raise TableError(f"{path.name} has faults:\n  " + "\n  ".join(faults[:MOST]) + more)
    for stream in table.captions.values():
        stream.sort(key=lambda each: each[0])
    table.ignored = [name for name in columns if _part(name) is None]
    return table


def read_text(path: Path, encoding: str = "utf-8") -> Caption:
    """The caption in a .txt file. TableError if it is empty or in another encoding."""
    caption = Caption(text=tidy(decoded(path, encoding)))
    if not caption:
        raise TableError(f"{path.name} is empty: write a caption or delete it")
    return caption


def decoded(path: Path, encoding: str) -> str:
    """The text of a file; a byte order mark wins. TableError names the first line that is in another encoding."""
    data = path.read_bytes()
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        encoding = name if data.startswith(mark) else encoding
    try:
        return data.decode(encoding)
    except LookupError:
        raise TableError(f"no text encoding is called {encoding!r}: try utf-8 or cp1252") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path.name} line {line} is not {encoding} (byte 0x{data[error.start]:02x}): save it as UTF-8, or say what "
            "it is, such as --encoding cp1252"
        ) from None


def _row(line: int, values: Mapping[str, Any] | str) -> Row:
    """A line as file and caption. CaptionError says what is wrong with it."""
    if isinstance(values, str):
        raise CaptionError(values)
    file, start, parts = "", 0.0, {}
    for name, value in values.items():
        part = _part(name)
        if part == "file":
            file = tidy(str(value or ""))
        elif part == "start":
            start = _seconds(value)
        elif part:
            parts[part] = value
    if not file:
        raise CaptionError(f"it names no file (`{FILE[0]}`)")
    if not (caption := Caption.of(parts)):
        raise CaptionError(f"{file} has an empty caption")
    return Row(line, file, caption, start)


def _seconds(value: Any) -> float:
    """A time from the beginning of a video; nothing is its beginning."""
    try:
        seconds = float(str(value).strip() or 0) if value is not None else 0.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise CaptionError(f"start {value!r} is no time: give seconds from the beginning of the video, such as 2.5")
    return seconds


def _part(column: str) -> str | None:
    """What a column means: file, start, caption, or a part of the schema."""
    name = column.strip().lower().replace(" ", "_").replace("-", "_")
    if name in FILE:
        return "file"
    if name == "start":
        return name
    return "caption" if name in TEXT else name if name in {f.name for f in fields(Caption)} else None


def _csv(text: str, columns: list[str], name: str) -> Iterator[Line]:
    """Lines of a .csv, with the names of its columns; commas, semicolons or tabs, whichever its head has most of."""
    head = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        columns += next(reader, [])
        known = [_part(column) for column in columns]
        if "file" not in known or len(set(known) - {None, "file", "start"}) == 0:
            raise TableError(
                f"{name} line 1 must name the columns `file` and `caption` (or parts of a caption); it has: "
                f"{', '.join(columns) or 'nothing'}"
            )
        line = reader.line_num + 1
        for values in reader:
            if any(value.strip() for value in values):
                fits = len(values) == len(columns)
                fault = f"it has {len(values)} fields instead of {len(columns)}: put quotes around text with a comma"
                yield line, dict(zip(columns, values)) if fits else fault
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{name} line {reader.line_num}: {error}") from None


def _jsonl(text: str, columns: list[str], name: str) -> Iterator[Line]:
    """Lines of a .jsonl, each an object."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, f"it is not JSON: {error.msg} at column {error.colno}"
            continue
        if isinstance(value, dict):
            columns += [key for key in value if key not in columns]
            yield number, value
        else:
            yield number, 'it is no object: write {"file": ..., "caption": ...}'


class _Names:
    """Finds the video that a table means: by its path in the folder, else by its name if only one is called so."""

    def __init__(self, videos: Iterable[str]):
        self.paths = {_plain(video): video for video in videos}
        self.names: dict[str, list[str]] = {}
        for video in videos:
            self.names.setdefault(_plain(PurePosixPath(video).name), []).append(video)

    def find(self, file: str) -> str | None:
        """The video, or None. CaptionError if several are called so."""
        path = _plain(file)
        if path in self.paths:
            return self.paths[path]
        same = self.names.get(path, [])
        if len(same) > 1:
            raise CaptionError(f"several videos are called {file}: write its folder too, as in {same[0]}")
        return same[0] if same else None


def _plain(path: str) -> str:
    """A path in one spelling: forward slashes, composed letters."""
    return unicodedata.normalize("NFC", path.replace("\\", "/").removeprefix("./"))
