"""The manifest of a prepared folder: shots.jsonl, a line for each kept shot, and prepared.json, where the videos are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from longtake.data.analysis import Shot
from longtake.data.caption import Caption
from longtake.data.measures import Measures

SHOTS, DROPPED, ABOUT = "shots.jsonl", "dropped.jsonl", "prepared.json"
BY_HAND = "by hand"  # said_by of a caption that was edited in one of the lists
Place = tuple[str, int, int]  # content hash of a file, and the frames of a shot in it: start and stop


class ManifestError(ValueError):
    """A folder that was not prepared, or not by this version."""


@dataclass(frozen=True)
class Kept:
    """A shot worth learning from. video: its file, relative to the folder; sha256: of that file. size: (height, width).

    caption: as it is told to the text encoder ("" if nobody said anything). said_by: where the caption is from.
    text: share of the picture that is text, if that was measured. later: (seconds from the start of the shot, what is told
    from then on).
    """

    video: str
    sha256: str
    size: tuple[int, int]
    shot: Shot
    caption: Caption = field(default_factory=Caption)
    said_by: str = ""
    text: float | None = None
    later: Sequence[tuple[float, str]] = ()

    @property
    def name(self) -> str:
        """The video and the frames."""
        return f"{shown(self.video)} {self.shot.start}-{self.shot.stop - 1}"

    def facts(self) -> dict[str, Any]:
        """One flat object."""
        shot = asdict(self.shot)
        measures = {**shot.pop("measures"), **({} if self.text is None else {"text": self.text})}
        head = {"video": self.video, "sha256": self.sha256, "size": list(self.size)}
        tail = {"caption": self.caption.sentence(), "parts": self.caption.facts(), "said_by": self.said_by}
        more = {"later": [list(each) for each in self.later]} if self.later else {}
        return {**head, **shot, **tail, **more, "measures": measures}

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Kept:
        """Undo `facts`. KeyError or TypeError if it is not such an object."""
        measures = dict(facts["measures"])
        text = measures.pop("text", None)
        own = {name: facts[name] for name in ("start", "stop", "first", "steps", "base", "fps", "seconds")}
        shot = Shot(**own, measures=Measures(**measures))
        size = (int(facts["size"][0]), int(facts["size"][1]))
        caption, said_by = Caption(**facts["parts"]), facts["said_by"]
        if caption.sentence() != facts["caption"]:  # edited by hand: what is written counts
            caption, said_by = Caption(text=facts["caption"]), BY_HAND
        later = tuple((float(seconds), str(words)) for seconds, words in facts.get("later", ()))
        return Kept(facts["video"], facts["sha256"], size, shot, caption, said_by, text, later)


def read(out: Path) -> Iterator[Kept]:
    """The shots of a prepared folder. ManifestError names a line that cannot be understood."""
    about(out)
    yield from _shots(out / SHOTS)


def by_hand(out: Path) -> dict[Place, dict[str, Kept]]:
    """The shots of an earlier run, kept or not, whose captions were edited by hand: by place, and by the file's name.

    ManifestError as `read`.
    """
    found: dict[Place, dict[str, Kept]] = {}
    for path in (out / DROPPED, out / SHOTS):
        for shot in _shots(path) if path.exists() else ():
            if shot.said_by == BY_HAND:
                found.setdefault((shot.sha256, shot.shot.start, shot.shot.stop), {})[shot.video] = shot
    return found


def _shots(path: Path) -> Iterator[Kept]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Kept.of(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ManifestError(f"{path} line {number} is no shot: {error}; mend the line or delete it") from error


def about(out: Path) -> dict[str, Any]:
    """What prepared.json says. ManifestError if there is none."""
    try:
        return json.loads((out / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"{out} is no prepared folder: make one with `longtake data prepare FOLDER -o {out}`"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name when it is whole."""
    draft = path.with_name(path.name + ".part")
    with open(draft, "w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def write_json(path: Path, value: Any) -> None:
    """A JSON file in one piece."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2) + "\n")


def shown(name: str) -> str:
    """A file name that can be printed, whatever bytes it is made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
