"""The manifest of a prepared folder: shots.jsonl, one line for each kept shot, and prepared.json, where the videos are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from longtake.core.errors import InputError
from longtake.core.files import json_object
from longtake.data.captions.caption import Caption
from longtake.data.shots.analysis import Shot
from longtake.data.shots.metrics import ShotMetrics
from longtake.runs.files.durable import atomic_path

SCHEMA = 2  # of a prepared folder; 1 was longtake 0.1
SHOTS, DROPPED, SUMMARY = "shots.jsonl", "dropped.jsonl", "prepared.json"
BY_HAND = "by hand"  # caption_source of a caption that was edited in one of the lists
ShotKey = tuple[str, int, int]  # SHA-256 of a file, and the frames of a shot in it: start and stop


class ManifestError(InputError):
    """A folder that is not a prepared folder, or one of another version."""


@dataclass(frozen=True)
class PreparedShot:
    """A shot for training. video: its file, relative to the folder; sha256: of that file. size: (height, width).

    caption: empty if there is none. caption_source: who wrote it. text: share of the frame that text covers, if that was
    detected. later: (seconds from the start of the shot, caption from then on).
    """

    video: str
    sha256: str
    size: tuple[int, int]
    shot: Shot
    caption: Caption = field(default_factory=Caption)
    caption_source: str = ""
    text: float | None = None
    later: Sequence[tuple[float, str]] = ()

    @property
    def name(self) -> str:
        """The video and the numbers of the first and last frame."""
        return f"{printable(self.video)} {self.shot.start}-{self.shot.stop - 1}"

    @property
    def key(self) -> ShotKey:
        """The contents of the file, and the frames."""
        return self.sha256, self.shot.start, self.shot.stop

    def facts(self) -> dict[str, Any]:
        """Return the object of its line in shots.jsonl."""
        shot = asdict(self.shot)
        metrics = {**shot.pop("metrics"), **({} if self.text is None else {"text": self.text})}
        later = {"later": [list(each) for each in self.later]} if self.later else {}
        return {
            "video": self.video, "sha256": self.sha256, "size": list(self.size), **shot,
            "caption": self.caption.sentence(), "parts": self.caption.facts(), "caption_source": self.caption_source,
            **later, "metrics": metrics,
        }  # fmt: skip

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> PreparedShot:
        """Return the shot of a line. Raises KeyError or TypeError if the object is none."""
        metrics = dict(facts["metrics"])
        text = metrics.pop("text", None)
        own = {name: facts[name] for name in ("start", "stop", "first", "steps", "base", "fps", "seconds")}
        shot = Shot(**own, metrics=ShotMetrics(**metrics))
        size = (int(facts["size"][0]), int(facts["size"][1]))
        caption, source = Caption(**facts["parts"]), facts["caption_source"]
        if caption.sentence() != facts["caption"]:  # the caption was edited by hand, which overrides its parts
            caption, source = Caption(text=facts["caption"]), BY_HAND
        later = tuple((float(seconds), str(words)) for seconds, words in facts.get("later", ()))
        return PreparedShot(facts["video"], facts["sha256"], size, shot, caption, source, text, later)


def read_shots(out: Path) -> Iterator[PreparedShot]:
    """Yield the shots of a prepared folder. Raises ManifestError that names a line which is no shot."""
    read_summary(out)
    yield from _shots(out / SHOTS)


def edited_shots(out: Path) -> dict[ShotKey, dict[str, PreparedShot]]:
    """Return the shots of an earlier run, kept or dropped, whose captions were edited by hand: by key, then by video.

    Raises ManifestError like `read_shots`.
    """
    found: dict[ShotKey, dict[str, PreparedShot]] = {}
    if (out / SUMMARY).exists():
        read_summary(out)
    for path in (out / DROPPED, out / SHOTS):
        for shot in _shots(path) if path.exists() else ():
            if shot.caption_source == BY_HAND:
                found.setdefault(shot.key, {})[shot.video] = shot
    return found


def _shots(path: Path) -> Iterator[PreparedShot]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield PreparedShot.from_facts(json_object(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ManifestError(
                    f"{path} line {number} is not a shot ({error}): correct the line or delete it"
                ) from error


def read_summary(out: Path) -> dict[str, Any]:
    """Return the object in prepared.json. Raises ManifestError if it is missing or of another version."""
    try:
        summary = json_object((out / SUMMARY).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{out / SUMMARY} cannot be read ({error}): prepare the videos again") from error
    except FileNotFoundError:
        raise ManifestError(
            f"{out} is not a prepared folder: make one with `longtake data prepare FOLDER -o {out}`"
        ) from None
    if summary.get("schema") != SCHEMA:
        raise ManifestError(f"{out} was prepared by another version of longtake: prepare the videos into a new folder")
    return summary


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Yield a text file to write, which appears as `path` once the block has ended without an error."""
    with atomic_path(path) as draft, open(draft, "w", encoding="utf-8", newline="\n") as file:
        yield file


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2) + "\n")


def printable(name: str) -> str:
    """Return a file name as text that can be printed, whatever bytes it has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
