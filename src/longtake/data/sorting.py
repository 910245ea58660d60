"""The second pass over a folder: rules, captions and duplicates, in the order of the files' names.

It reads no video but for what plug-ins want to see, and their answers are remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from longtake.data import captioner as captioners
from longtake.data.analysis import Analysis, How, Shot, finished
from longtake.data.caption import Caption
from longtake.data.captioner import Captioner, CaptionerError, Glimpse
from longtake.data.filters import Rules, Seen, broken
from longtake.data.manifest import BY_HAND, DROPPED, SHOTS, Kept, Place, replacing, shown
from longtake.data.report import Report
from longtake.data.tables import Table, TableError, read_text
from longtake.data.video import VideoError

Stream = Sequence[tuple[float, Caption]]  # seconds from the beginning of a video, and what it shows from then on
Told = tuple[Caption, str, Sequence[tuple[float, str]]]  # of a shot: at its start, who says so, and later


@dataclass
class Sorting:
    """Which shots are kept, and what they are told to show.

    encoding: of .txt files. captioner, text: names of the plug-ins; say, find_text: the plug-ins. edited: shots whose
    captions were edited by hand, which they keep.
    """

    folder: Path
    rules: Rules
    how: How
    report: Report
    table: Table
    encoding: str
    captioner: str
    say: Captioner
    text: str | None = None
    find_text: Callable[[np.ndarray], float] | None = None
    edited: Mapping[Place, Mapping[str, Kept]] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    met: set[Place] = field(default_factory=set)

    def write(self, out: Path, hashes: dict[str, str]) -> None:
        """Write shots.jsonl and dropped.jsonl of videos with these content hashes."""
        with replacing(out / SHOTS) as kept, replacing(out / DROPPED) as dropped:
            for video in sorted(hashes):
                if (file := finished(hashes[video], self.how)) is None:
                    self.report.errors.append((shown(video), "what was read of it is gone: prepare the folder again"))
                    continue
                try:
                    written = self._written(video)
                except (TableError, OSError) as error:
                    self.report.errors.append((shown(video), str(error)))
                    continue
                if file.missing:
                    self.report.notes.append(
                        f"{shown(video)} may be torn: its pictures end {file.missing:.1f} s before it does, as it says itself"
                    )
                for shot in file.shots:
                    self._sort(video, file, shot, written, kept, dropped)
            self._keep_edited(dropped)
        self.report.errors.sort()

    def _written(self, video: str) -> tuple[Stream, str]:
        """What people wrote about a video, and where: the table's line, else the .txt beside it."""
        if video in self.table.captions:
            assert self.table.path
            return self.table.captions[video], f"{self.table.path.name} line {self.table.lines[video]}"
        text = (self.folder / video).with_suffix(".txt")
        if text.exists():
            return [(0.0, read_text(text, self.encoding))], shown(text.name)
        return [], ""

    def _sort(
        self, video: str, file: Analysis, shot: Shot, written: tuple[Stream, str], kept: TextIO, dropped: TextIO
    ) -> None:
        """Write a shot where it belongs, and count it."""
        reasons, text = dict(broken(self.rules, shot, file)), None
        caption, source, later = self._by_hand(video, file, shot) or _cut(*written, shot)
        try:
            if not reasons:
                text = self._text(video, file, shot, reasons)
                self._duplicate(shot, reasons)
            if not reasons and not caption and source != BY_HAND:
                caption, source = self._asked(video, file, shot)
        except (CaptionerError, VideoError) as error:
            reasons["failed"] = str(error)
            self.report.errors.append((_name(video, shot), str(error)))
        found = Kept(video, file.sha256, file.size, shot, caption, source, text, later)
        words = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or caption.sentence()
        self.report.count(video, shot, words, list(reasons))
        if reasons:
            dropped.write(json.dumps({**found.facts(), "reasons": reasons}) + "\n")
        else:
            self.seen.add(shot.measures.look, shot.seconds, _name(video, shot))
            self.report.captions[_kind(source)] += 1
            kept.write(json.dumps(found.facts()) + "\n")

    def _by_hand(self, video: str, file: Analysis, shot: Shot) -> Told | None:
        """What was written by hand of a shot: of this file, or else of another one of the same content."""
        place = (file.sha256, shot.start, shot.stop)
        if place not in self.edited:
            return None
        self.met.add(place)
        found = self.edited[place].get(video, next(iter(self.edited[place].values())))
        return found.caption, BY_HAND, found.later

    def _keep_edited(self, dropped: TextIO) -> None:
        """Write down the captions by hand whose shots are not there now, for when they are there again."""
        gone = [one for place, found in self.edited.items() if place not in self.met for one in found.values()]
        for one in gone:
            dropped.write(json.dumps({**one.facts(), "reasons": {"gone": "there is no such shot now"}}) + "\n")
        if gone:
            told = ", ".join(one.name for one in gone[:5]) + (", ..." if len(gone) > 5 else "")
            self.report.notes.append(f"{DROPPED} keeps captions by hand of shots that are not there now: {told}")

    def _text(self, video: str, file: Analysis, shot: Shot, reasons: dict[str, str]) -> float | None:
        """The share of text in a shot, if it is looked for."""
        if self.find_text is None:
            return None
        find, glimpse = self.find_text, self._glimpse(video, shot)
        ask = lambda: max(float(find(frame)) for frame in glimpse.frames)
        share = self._remembered(f"text {self.text}", file, shot, ask)
        if self.rules.text is not None and share > self.rules.text:
            reasons["text"] = f"{share:.1%} of a picture, at most {self.rules.text:.1%}"
        return share

    def _duplicate(self, shot: Shot, reasons: dict[str, str]) -> None:
        if not self.rules.duplicates or reasons:
            return
        if (other := self.seen.like(shot.measures.look, shot.seconds)) is not None:
            reasons["duplicate"] = f"like {other}"

    def _asked(self, video: str, file: Analysis, shot: Shot) -> tuple[Caption, str]:
        """What the captioner says of a shot; asked once and then remembered."""
        name, glimpse = self.captioner, self._glimpse(video, shot)
        if name in captioners.BUILT_IN:
            caption = captioners.ask(self.say, glimpse)
        else:
            version = getattr(self.say, "version", "")
            ask = lambda: captioners.ask(self.say, glimpse).facts()
            caption = Caption(**self._remembered(f"captioner {name} {version}", file, shot, ask))
        return caption, f"captioner {name}" if caption else ""

    def _glimpse(self, video: str, shot: Shot) -> Glimpse:
        begins = float(shot.first * Fraction(shot.base))
        return Glimpse(self.folder / video, begins, shot.seconds, shot.fps, shot.stamps)

    def _remembered(self, what: str, file: Analysis, shot: Shot, make: Callable[[], Any]) -> Any:
        """A plug-in's answer about a shot, kept on disk."""
        name = hashlib.sha256(f"{what} {file.sha256} {shot.start} {shot.stop}".encode()).hexdigest()
        place = self.how.work / "said" / name[:2] / f"{name}.json"
        try:
            return json.loads(place.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            pass
        try:
            answer = make()
        except (VideoError, CaptionerError):
            raise
        except Exception as error:  # of a stranger's function
            raise CaptionerError(f"{what} failed: {type(error).__name__}: {error}") from error
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as out:
            json.dump(answer, out)
        return answer


def _cut(stream: Stream, source: str, shot: Shot) -> Told:
    """What a stream of captions says of a shot: at its start, and later, in seconds from there."""
    begins, caption = float(shot.first * Fraction(shot.base)), Caption()
    for second, said in stream:
        if second <= begins + 1e-6:
            caption = said
    inside = [(round(second - begins, 6), said) for second, said in stream if second > begins + 1e-6]
    later = [(second, said.sentence()) for second, said in inside if second < shot.seconds]
    return caption, source if caption else "", later


def _name(video: str, shot: Shot) -> str:
    return f"{shown(video)} {shot.start}-{shot.stop - 1}"


def _kind(source: str) -> str:
    """Where a caption is from, in a word or two."""
    if not source:
        return "no caption"
    return ".txt beside the video" if source.endswith(".txt") else source.split(" line ")[0]
