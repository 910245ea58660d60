"""What became of a folder: how much was kept, why the rest was not, and every file that could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from longtake.data.analysis import Shot

T = TypeVar("T")
SHOWN = 24  # pictures of each kind on the contact sheet
MEANS = {
    "short": "shorter than --seconds",
    "small": "smaller than --side",
    "hdr": "HDR, which would look washed out",
    "damaged": "the decoder could not restore all frames",
    "dark": "darker than --dark",
    "bright": "brighter than --bright",
    "blurred": "less sharp than --sharpness",
    "still": "less motion than --motion",
    "text": "more text than --text-share",
    "duplicate": "like a shot that was kept",
    "failed": "a plug-in failed on it, see the errors",
}


class Spread(Generic[T]):
    """At most 2 n things, evenly spread over all that were added, however many those are."""

    def __init__(self, most: int):
        self._most, self._every, self._seen = most, 1, 0
        self.things: list[T] = []

    def add(self, thing: T) -> None:
        """The next thing."""
        if self._seen % self._every == 0:
            self.things.append(thing)
        self._seen += 1
        if len(self.things) > 2 * self._most:
            self.things, self._every = self.things[::2], 2 * self._every


@dataclass
class Report:
    """Counts and lines. errors: (file or shot, why). notes: what deserves a look. kept, dropped: (video, shot, words) to show."""

    videos: int = 0
    shots: int = 0
    kept: int = 0
    seconds: float = 0.0
    kept_seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    only: Counter[str] = field(default_factory=Counter)
    captions: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shown: Spread[tuple[str, Shot, str]] = field(default_factory=lambda: Spread(SHOWN))
    dropped: Spread[tuple[str, Shot, str]] = field(default_factory=lambda: Spread(SHOWN))

    def count(self, video: str, shot: Shot, words: str, reasons: Sequence[str]) -> None:
        """A shot was kept, or dropped for reasons (words say them)."""
        self.shots += 1
        self.seconds += shot.seconds
        if reasons:
            self.reasons.update(reasons)
            self.only.update(reasons if len(reasons) == 1 else ())
            self.dropped.add((video, shot, words))
        else:
            self.kept += 1
            self.kept_seconds += shot.seconds
            self.shown.add((video, shot, words))

    def facts(self) -> dict[str, Any]:
        """The report as one json-able object."""
        return {
            "videos": self.videos, "shots": self.shots, "kept": self.kept,
            "seconds": round(self.seconds, 2), "kept_seconds": round(self.kept_seconds, 2),
            "reasons": dict(self.reasons.most_common()), "only_reason": dict(self.only.most_common()),
            "captions": dict(self.captions.most_common()),
            "errors": [{"file": name, "why": why} for name, why in self.errors], "notes": self.notes,
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """The report for a person."""
        yield f"{plural(self.videos, 'video')}, {plural(self.shots, 'shot')} of {clock(self.seconds)} in all"
        yield f"kept {plural(self.kept, 'shot')}, {clock(self.kept_seconds)}"
        if self.reasons:
            yield f"not kept: {plural(self.shots - self.kept, 'shot')} (one may have several reasons)"
            for name, count in self.reasons.most_common():
                alone = f", {self.only[name]} for this alone" if self.only[name] != count else ""
                yield f"  {count:6d}  {name}: {MEANS.get(name, name)}{alone}"
        if self.kept:
            yield "captions of the kept shots"
            for name, count in self.captions.most_common():
                yield f"  {count:6d}  {name}"
        if self.errors:
            yield f"errors: {len(self.errors)}"
            yield from (f"  {name}: {why}" for name, why in self.errors)
        if self.notes:
            yield "notes"
            yield from (f"  {note}" for note in self.notes)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03.4 below an hour."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
    tenths = int(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def plural(count: int, noun: str) -> str:
    """1 shot, 2 shots"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
