"""output.json: which command asked for a run, and which finished file its video becomes besides video.mp4."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longtake.core.files import json_object
from longtake.runs.files import durable
from longtake.runs.files.layout import Layout
from longtake.runs.files.schema import RUN_SCHEMA, Keys, SchemaError, check_keys, key

OUTPUT_KEYS: Keys = {
    "schema": key("schema number of the run directory", int),
    "command": key("words of the command that asked for the video, without those about its output", list),
    "script": key(
        "SHA-256 of the script file and of the video to be like that the command names; empty if it names none", str
    ),
    "seed": key("seed of the noise, which the command may have left to chance", int),
    "file": key("path of the finished file, seen from the run directory; null: video.mp4 alone", str, None),
    "codec": key("video codec of the finished file: h264, hevc or av1", str),
    "crf": key("constant quality of the finished file; null: that of its codec, or of video.mp4", int, None),
    "audio": key("path of the file whose sound the finished file has; null: none", str, None),
    "keep": key("whether the run directory stays when the finished file is complete", bool),
    "replace": key("whether the finished file may replace another one of its name", bool),
    "written": key("SHA-256 of the finished file; empty while it is not written", str),
    "source": key("SHA-256 of the video.mp4 that the finished file was made from; empty before", str),
}  # the keys of output.json
_FILE_KEYS = ("file", "codec", "crf", "audio", "keep", "replace")


@dataclass(frozen=True)
class FinishedFile:
    """The file that a video becomes besides video.mp4.

    file: its path, absolute or seen from the run directory (None: there is none). crf: constant quality, None for that of
    the codec. audio: a file whose sound it has. keep: whether the run directory stays. replace: whether it may replace
    another file of its name.
    """

    file: str | None = None
    codec: str = "h264"
    crf: int | None = None
    audio: str | None = None
    keep: bool = True
    replace: bool = False

    def path(self, folder: Path) -> Path | None:
        """Return the path of the file of the run in `folder`."""
        return None if self.file is None else _without_dots(folder, Path(self.file))

    def same_kind(self, other: FinishedFile) -> bool:
        """Whether both are encoded alike, whatever their paths."""
        return (self.codec, self.crf, self.audio) == (other.codec, other.crf, other.audio)


@dataclass(frozen=True)
class OutputRecord:
    """What output.json says. command: the words of the command line, from "generate" on. script: SHA-256 of its script file,
    and of the video that --like names.

    seed: of the noise. written, source: SHA-256 of the finished file and of the video.mp4 it was made from, "" before.
    """

    command: tuple[str, ...]
    script: str
    seed: int
    finished: FinishedFile = field(default_factory=FinishedFile)
    written: str = ""
    source: str = ""

    def same_video(self, other: OutputRecord) -> bool:
        """Whether two commands ask for the same video, whatever file it becomes."""
        return (self.command, self.script) == (other.command, other.script)

    @property
    def draws_seed(self) -> bool:
        """Whether the command left the seed to chance."""
        return "--seed=random" in self.command

    def facts(self) -> dict[str, Any]:
        """Return the contents of output.json. SchemaError if its keys are not those of the table."""
        facts = {"schema": RUN_SCHEMA, "command": list(self.command), "script": self.script, "seed": self.seed}
        facts |= {**asdict(self.finished), "written": self.written, "source": self.source}
        check_keys(facts, OUTPUT_KEYS, "output.json")
        return facts

    def encoded(self) -> bytes:
        """Return the bytes of output.json."""
        return json.dumps(self.facts(), ensure_ascii=False, indent=2).encode() + b"\n"

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> OutputRecord:
        """Read the contents of output.json. SchemaError if they are not those of the table."""
        check_keys(facts, OUTPUT_KEYS, "output.json")
        finished = FinishedFile(**{name: facts[name] for name in _FILE_KEYS})
        words = tuple(map(str, facts["command"]))
        return OutputRecord(words, facts["script"], facts["seed"], finished, facts["written"], facts["source"])


def load(folder: Path) -> OutputRecord | None:
    """Read output.json of a run directory; None if there is none that can be read, as in a run made from Python."""
    try:
        return OutputRecord.from_facts(json_object(Layout(folder).output.read_bytes()))
    except (OSError, ValueError, SchemaError):
        return None


def save(folder: Path, record: OutputRecord) -> None:
    """Write output.json durably."""
    durable.write_file(Layout(folder).output, [record.encoded()])


def is_own_file(folder: Path, record: OutputRecord) -> bool:
    """Whether the finished file of a run is there as this run wrote it."""
    path = record.finished.path(folder)
    found = None if path is None or not record.written else durable.file_digest(path)
    return found is not None and found.sha256 == record.written


def seen_from(folder: Path, file: Path | None) -> str | None:
    """Return the path of a file seen from the run directory beside it, else its whole path."""
    if file is None:
        return None
    return f"../{file.name}" if folder.parent == file.parent else os.path.abspath(file)


def _without_dots(folder: Path, path: Path) -> Path:
    """Return a path seen from a folder, without `..` where it leads out of that folder."""
    while path.parts[:1] == ("..",):
        folder, path = folder.parent, Path(*path.parts[1:])
    return folder / path
