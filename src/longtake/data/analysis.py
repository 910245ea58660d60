"""One video file, read once from start to end: its content's hash, its shots, and what is measured of them.

The result is written under the hash of the content, so a file that was finished is never read again, whatever it is
called and wherever it lies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from longtake.data import shots
from longtake.data.measures import SIDE, Measures, pieces
from longtake.data.video import Stream, Video, VideoError, short_side

VERSION = 1  # of what is measured; part of every result's name
TORN = 0.02  # share of the promised frames, or seconds, that may be missing


@dataclass(frozen=True)
class How:
    """What decides a result besides the file. detector: with its version. longest: seconds of a piece.

    work: folder of the results, and of a detector's weights. threads: of the decoder, which never change a frame.
    """

    shots: str
    detector: str
    longest: float
    work: Path
    threads: int = 1

    @property
    def key(self) -> str:
        """Names the settings."""
        facts = f"{VERSION} {self.detector} {self.longest!r} {SIDE}"
        return hashlib.sha256(facts.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Shot:
    """A stretch of a file: frames start..stop-1, at stamps first + the sums of steps, [ticks, times] each.

    base: seconds per tick, as a fraction. fps: of this stretch, on average.
    """

    start: int
    stop: int
    first: int
    steps: list[list[int]]
    base: str
    fps: float
    seconds: float
    measures: Measures

    @property
    def stamps(self) -> list[int]:
        """The stamp of every frame."""
        found = [self.first]
        for ticks, times in self.steps:
            found += [found[-1] + ticks * (n + 1) for n in range(times)]
        return found

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Shot:
        """Undo asdict."""
        return Shot(**{**facts, "measures": Measures(**facts["measures"])})


@dataclass(frozen=True)
class Analysis:
    """A file that was read to its end. size: (height, width) as it is shown. missing: seconds at its end, by what it says."""

    sha256: str
    size: tuple[int, int]
    codec: str
    hdr: bool
    frames: int
    seconds: float
    shots: list[Shot]
    missing: float = 0.0

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Analysis:
        """Undo asdict."""
        return Analysis(**{**facts, "size": tuple(facts["size"]), "shots": [Shot.of(s) for s in facts["shots"]]})


def analyse(path: Path, how: How) -> Analysis:
    """The result for a file, from how.work if it is there, else made and put there. Errors: VideoError, OSError."""
    sha256 = content(path)
    if (known := finished(sha256, how)) is not None:
        return known
    found, place = _read(path, sha256, how), _place(sha256, how)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}.part")
    draft.write_text(json.dumps(asdict(found)))
    os.replace(draft, place)
    return found


def content(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finished(sha256: str, how: How) -> Analysis | None:
    """The result for that content; None if there is none, or a crash of the machine has left it unreadable."""
    try:
        return Analysis.of(json.loads(_place(sha256, how).read_text()))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _place(sha256: str, how: How) -> Path:
    return how.work / sha256[:2] / f"{sha256}-{how.key}.json"


def _read(path: Path, sha256: str, how: How) -> Analysis:
    with Video(path, how.threads) as video:
        detector = shots.DETECTORS[how.shots](how.work)
        frames = video.frames(short_side(SIDE))
        found: list[Shot] = []
        for piece in pieces(frames, detector, video.stream.base, how.longest):
            found.append(_shot(piece.start, piece.stamps, video.stream, piece.measures))
    count, seconds = found[-1].stop if found else 0, round(sum(shot.seconds for shot in found), 3)
    _whole(video.stream, count)
    return Analysis(
        sha256, video.stream.size, video.stream.codec, video.stream.hdr, count,
        seconds, found, _missing(video.stream, seconds),
    )  # fmt: skip


def _whole(stream: Stream, count: int) -> None:
    """Refuse a file that holds fewer frames than it says: a download or a copy that broke off."""
    if count < stream.frames * (1 - TORN) - 1:
        raise VideoError(f"it is torn: it says {stream.frames} frames, and {count} can be read")


def _missing(stream: Stream, seconds: float) -> float:
    """How much shorter a file is than it says, if it does not say how many frames it has. Sound may last longer, too."""
    torn = stream.timed and not stream.frames and seconds < stream.seconds * (1 - TORN) - 1
    return round(stream.seconds - seconds, 2) if torn else 0.0


def _shot(start: int, stamps: list[int], stream: Stream, measures: Measures) -> Shot:
    gaps = [after - before for before, after in pairwise(stamps)]
    steps = [[ticks, len(list(same))] for ticks, same in groupby(gaps)]
    last = sorted(gaps)[len(gaps) // 2] if gaps else 1 / stream.rate / stream.base
    seconds = Fraction(stamps[-1] - stamps[0] + last) * stream.base
    fps = float(len(stamps) / seconds) if seconds else float(stream.rate)
    return Shot(
        start,
        start + len(stamps),
        stamps[0],
        steps,
        str(stream.base),
        round(fps, 4),
        round(float(seconds), 4),
        measures,
    )
