"""Captions that people wrote: a .txt file next to each video, or one .csv, .jsonl or .json table for the folder.

A table has a column (or key) `file`, and either `caption` or parts of a `Caption`. With a column `start`, in seconds from
the beginning of the video, a video has several rows, each valid from its start on. All errors of a table are reported at
once, with their lines, before any video is read.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from longtake.core import files
from longtake.core.errors import InputError
from longtake.data.captions.caption import Caption, CaptionError, tidy
from longtake.data.captions.video_names import VideoNames

FILE = ("file", "filename", "file_name", "file_path", "video", "video_path", "media", "media_path", "path")
TEXT = ("caption", "text", "prompt", "description", "video_description")
TABLES = (".csv", ".jsonl")
JSON = ("captions.json", "dataset.json", "metadata.json")  # names under which trainers keep a list of objects
VIDEO_LIST, PROMPT_LISTS = "videos.txt", ("prompt.txt", "prompts.txt")  # a video, and its prompt, on the same line
Line = tuple[int, "Mapping[str, Any] | str"]  # number of the line, and its values by column or what is wrong with it
MOST = 12  # errors that are listed


class TableError(InputError):
    """A table of captions with errors; the message names their lines."""


@dataclass(frozen=True)
class Row:
    """A row of a table. start: in seconds."""

    line: int
    file: str
    caption: Caption
    start: float = 0.0


@dataclass
class CaptionTable:
    """The captions of a folder.

    captions: for every video in the table, (start in seconds, caption from then on) in order. lines: line of its first row.
    unmatched: "line n: file" of rows whose video is not in the folder. unused: columns that mean nothing here.
    """

    path: Path | None = None
    captions: dict[str, list[tuple[float, Caption]]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def find_table(folder: Path, videos: Sequence[str] = ()) -> Path | None:
    """Return the table at the top of a folder, or None; a table with the name of a video does not count.

    Raises TableError if there are several.
    """
    own = {PurePosixPath(video).with_suffix("").as_posix() for video in videos}
    here = [p for p in folder.iterdir() if not p.name.startswith(".") and p.stem not in own]
    found = sorted(p for p in here if p.suffix.lower() in TABLES or p.name in JSON)
    found += [p for p in here if p.name == VIDEO_LIST and prompt_list(p) is not None]
    if len(found) > 1:
        raise TableError(
            f"{folder} holds several tables ({', '.join(p.name for p in found)}): choose one with --captions"
        )
    return found[0] if found else None


def prompt_list(videos: Path) -> Path | None:
    """Return the file with the prompts of a list of videos, if there is one beside it."""
    return next((found for name in PROMPT_LISTS if (found := videos.with_name(name)).exists()), None)


def read_table(
    path: Path, videos: Sequence[str], encoding: str = "utf-8", folder: Path | None = None
) -> CaptionTable:  # fmt: skip
    """Read a table and match it with videos (paths relative to the folder). Raises TableError that lists its errors.

    folder: of the videos; a path that leads into it, such as an absolute one, names the video there.
    """
    columns: list[str] = []
    table, errors, names = CaptionTable(path), [], VideoNames(videos, folder, path.parent)
    for line, values in _lines(path, encoding, columns):
        try:
            row = _row(line, values)
            video = names.find(row.file)
            if video is None:
                table.unmatched.append(f"line {line}: {row.file}")
            elif row.start in (start for start, _ in table.captions.get(video, ())):
                raise CaptionError(f"{row.file} has a caption already, in line {table.lines[video]}")
            else:
                table.captions.setdefault(video, []).append((row.start, row.caption))
                table.lines.setdefault(video, line)
        except CaptionError as error:
            errors.append(f"line {line}: {error}")
    if errors:
        more = f"\n  and {len(errors) - MOST} more" if len(errors) > MOST else ""
        raise TableError(f"{path.name} has errors:\n  " + "\n  ".join(errors[:MOST]) + more)
    for stream in table.captions.values():
        stream.sort(key=lambda each: each[0])
    table.unused = [name for name in columns if _part(name) is None]
    if not table.captions:
        names_none = f"none of its {len(table.unmatched)} rows names a video of this folder, such as"
        why = f"{names_none} {table.unmatched[0]!r}" if table.unmatched else "it has no rows"
        raise TableError(f"{path.name}: {why}: correct the paths in it")
    return table


def _lines(path: Path, encoding: str, columns: list[str]) -> Iterator[Line]:
    """The lines of a table of any kind. columns: filled with the names of its columns."""
    suffix, prompts = path.suffix.lower(), prompt_list(path) if path.name == VIDEO_LIST else None
    if suffix not in (*TABLES, ".json") and prompts is None:
        raise TableError(
            f"{path.name} is not a table of captions: give a .csv, a .jsonl or a .json file, or {VIDEO_LIST} with "
            f"{PROMPT_LISTS[0]} beside it"
        )
    text = decoded(path, encoding)
    if prompts is not None:
        return _pairs(text, decoded(prompts, encoding), prompts.name)
    parse = {".jsonl": _jsonl, ".json": _json}.get(suffix, _csv)
    return parse(text, columns, path.name)


def read_text(path: Path, encoding: str = "utf-8") -> Caption:
    """Read the caption in a .txt file. Raises TableError if it is empty or in another encoding."""
    caption = Caption(text=tidy(decoded(path, encoding)))
    if not caption:
        raise TableError(f"{path.name} is empty: write a caption or delete it")
    return caption


def decoded(path: Path, encoding: str) -> str:
    """Read a text file; a byte order mark overrides `encoding`. Raises TableError that names the first line that cannot be read."""
    if problem := files.problem_of(path):
        raise TableError(f"{path} cannot be read: {problem}")
    data = path.read_bytes()
    try:
        return files.decoded(data, encoding)
    except LookupError:
        raise TableError(f"unknown text encoding {encoding!r}: try utf-8 or cp1252") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path.name} line {line} is not {encoding} (byte 0x{data[error.start]:02x}): save it as UTF-8, or name "
            "its encoding, such as --encoding cp1252"
        ) from None


def _row(line: int, values: Mapping[str, Any] | str) -> Row:
    """Return the row in a line. Raises CaptionError if it has none."""
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
        raise CaptionError(f"the row names no file (`{FILE[0]}`)")
    if not (caption := Caption.from_parts(parts)):
        raise CaptionError(f"{file} has an empty caption")
    return Row(line, file, caption, start)


def _seconds(value: Any) -> float:
    """Return a time in seconds; an empty value is 0."""
    try:
        seconds = float(str(value).strip() or 0) if value is not None else 0.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise CaptionError(f"start {value!r} is not a time: give seconds from the beginning of the video, such as 2.5")
    return seconds


def _part(column: str) -> str | None:
    """The meaning of a column: file, start, caption, or a part of a caption; None for other columns."""
    name = column.strip().lower().replace(" ", "_").replace("-", "_")
    if name in FILE:
        return "file"
    if name == "start":
        return name
    return "caption" if name in TEXT else name if name in {f.name for f in fields(Caption)} else None


def _csv(text: str, columns: list[str], name: str) -> Iterator[Line]:
    """The lines of a .csv, separated by comma, semicolon or tab, whichever its first line has most of."""
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
                error = (
                    f"the row has {len(values)} fields instead of {len(columns)}: put quotes around text with a comma"
                )
                yield line, dict(zip(columns, values)) if fits else error
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{name} line {reader.line_num}: {error}") from None


def _jsonl(text: str, columns: list[str], name: str) -> Iterator[Line]:
    """The lines of a .jsonl, each of which is an object."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, f"the line is not JSON: {error.msg} at column {error.colno}"
            continue
        except (ValueError, RecursionError) as error:  # a number of too many digits, or too many brackets
            yield number, f"the line cannot be read: {error}"
            continue
        if isinstance(value, dict):
            columns += [key for key in value if key not in columns]
            yield number, value
        else:
            yield number, 'the line is not an object: write {"file": ..., "caption": ...}'


def _json(text: str, columns: list[str], name: str) -> Iterator[Line]:
    """The objects of a .json list, numbered from 1."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{name} is not JSON: {error}") from None
    if not isinstance(found, list):
        raise TableError(f'{name} is not a list: write [{{"file": ..., "caption": ...}}, ...]')
    for number, value in enumerate(found, 1):
        if isinstance(value, dict):
            columns += [key for key in value if key not in columns]
        yield number, value if isinstance(value, dict) else "it is not an object"


def _pairs(videos: str, prompts: str, name: str) -> Iterator[Line]:
    """The lines of a list of videos, each with the prompt on the same line of another file."""
    files, texts = (text.rstrip().splitlines() for text in (videos, prompts))
    if len(files) != len(texts):
        raise TableError(f"{VIDEO_LIST} has {len(files)} lines and {name} {len(texts)}: write a prompt for each video")
    for number, (file, text) in enumerate(zip(files, texts), 1):
        if file.strip() or text.strip():
            yield number, {"file": file, "caption": text}
