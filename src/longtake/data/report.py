"""The report on a prepared folder: how many shots were kept, why the others were dropped, and every unreadable file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from longtake.data.shots.analysis import Shot

T = TypeVar("T")
SHOWN = 24  # shots of each kind on the contact sheet
REASONS = {
    "short": "shorter than --min-seconds",
    "small": "smaller than --min-side",
    "damaged": "the decoder could not restore all frames",
    "dark": "darker than --min-brightness",
    "bright": "brighter than --max-brightness",
    "blurred": "less sharp than --min-sharpness",
    "still": "less motion than --min-motion",
    "text": "more text than --max-text-share",
    "duplicate": "near duplicate of a kept shot",
    "failed": "a plug-in failed, see the errors",
}  # what each reason means


class EvenSample(Generic[T]):
    """At most 2 n items, evenly spread over all that were added, however many those are."""

    def __init__(self, count: int):
        self._count, self._every, self._added = count, 1, 0
        self.items: list[T] = []

    def add(self, item: T) -> None:
        """Add the next item, which may be left out of the sample."""
        if self._added % self._every == 0:
            self.items.append(item)
        self._added += 1
        if len(self.items) > 2 * self._count:
            self.items, self._every = self.items[::2], 2 * self._every


@dataclass
class Shots:
    """Shots that were counted: how many, and how long in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a shot."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Report:
    """Counts and lines.

    found, selected: all shots, and those that were kept. reasons, only: how often a rule was broken, and how often no other
    was. captions: sources of captions. errors: (file or shot, why). notes: lines for the reader.
    shown, dropped: (video, shot, words) of kept and dropped shots for the contact sheet.
    """

    videos: int = 0
    found: Shots = field(default_factory=Shots)
    selected: Shots = field(default_factory=Shots)
    reasons: Counter[str] = field(default_factory=Counter)
    only: Counter[str] = field(default_factory=Counter)
    captions: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shown: EvenSample[tuple[str, Shot, str]] = field(default_factory=lambda: EvenSample(SHOWN))
    dropped: EvenSample[tuple[str, Shot, str]] = field(default_factory=lambda: EvenSample(SHOWN))

    @property
    def kept(self) -> int:
        """The number of shots that were kept."""
        return self.selected.count

    def count(self, video: str, shot: Shot, words: str, reasons: Sequence[str]) -> None:
        """Count a shot that was kept, or dropped for reasons. words: its caption, or the reasons in full."""
        self.found.add(shot.seconds)
        if reasons:
            self.reasons.update(reasons)
            self.only.update(reasons if len(reasons) == 1 else ())
            self.dropped.add((video, shot, words))
        else:
            self.selected.add(shot.seconds)
            self.shown.add((video, shot, words))

    def facts(self) -> dict[str, Any]:
        """Return the report as a JSON-able object."""
        return {
            "videos": self.videos, "shots": self.found.count, "kept": self.kept,
            "seconds": round(self.found.seconds, 2), "kept_seconds": round(self.selected.seconds, 2),
            "reasons": dict(self.reasons.most_common()), "only_reason": dict(self.only.most_common()),
            "captions": dict(self.captions.most_common()),
            "errors": [{"file": name, "why": why} for name, why in self.errors], "notes": self.notes,
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        found, kept = self.found, self.selected
        yield f"{plural(self.videos, 'video')}, {plural(found.count, 'shot')} of {clock(found.seconds)} in all"
        yield f"kept {plural(kept.count, 'shot')}, {clock(kept.seconds)}"
        if self.reasons:
            yield f"dropped: {plural(found.count - kept.count, 'shot')} (a shot may have several reasons)"
            for name, count in self.reasons.most_common():
                only = f", {self.only[name]} for this reason alone" if self.only[name] != count else ""
                yield f"  {count:6d}  {name}: {REASONS.get(name, name)}{only}"
        if kept.count:
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
    """Format seconds as 1:02:03, or 2:03.4 below an hour."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
    tenths = int(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: 1 shot, 2 shots."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
