"""The analysis of a video file, read once from start to end: hash of its contents, its shots, and their metrics.

Results are stored under the hash of the contents, so a file that was analysed is never read again, whatever its name and
folder are.
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

from longtake.core.files import problem_of
from longtake.core.platform import replace_file
from longtake.data.shots.detection import DETECTORS
from longtake.data.shots.metrics import SIDE, ShotMetrics, split_shots
from longtake.media.video_reader import TRUNCATED, StreamInfo, VideoError, VideoReader, short_side

VERSION = 3  # of the stored results; part of the name of each


@dataclass(frozen=True)
class AnalysisSettings:
    """Everything but the file that decides a result.

    shots: name of the detector. detector: with its version. longest: seconds of a piece. work: folder of the results, and
    of a detector's weights. threads: of the decoder, which never change a frame.
    """

    shots: str
    detector: str
    longest: float
    work: Path
    threads: int = 1

    @property
    def key(self) -> str:
        """The hash of these settings, part of the name of every result."""
        facts = f"{VERSION} {self.detector} {self.longest!r} {SIDE}"
        return hashlib.sha256(facts.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Shot:
    """The frames start..stop-1 of a file.

    first: timestamp of the first frame. steps: differences of the timestamps, as [ticks, number of times] each.
    base: seconds per tick, as a fraction. fps: mean frame rate of the shot.
    """

    start: int
    stop: int
    first: int
    steps: list[list[int]]
    base: str
    fps: float
    seconds: float
    metrics: ShotMetrics

    @property
    def stamps(self) -> list[int]:
        """The timestamp of every frame, in ticks."""
        found = [self.first]
        for ticks, times in self.steps:
            found += [found[-1] + ticks * (n + 1) for n in range(times)]
        return found

    @property
    def start_seconds(self) -> float:
        """The time of the first frame in its file, in seconds."""
        return float(self.first * Fraction(self.base))

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Shot:
        """Return the shot that `asdict` wrote."""
        return Shot(**{**facts, "metrics": ShotMetrics(**facts["metrics"])})


@dataclass(frozen=True)
class Analysis:
    """The analysis of a file. size: (height, width) as it is shown. missing: seconds that its header states too many."""

    sha256: str
    size: tuple[int, int]
    codec: str
    hdr: bool
    frames: int
    seconds: float
    shots: list[Shot]
    missing: float = 0.0

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Analysis:
        """Return the analysis that `asdict` wrote."""
        shots = [Shot.from_facts(shot) for shot in facts["shots"]]
        return Analysis(**{**facts, "size": tuple(facts["size"]), "shots": shots})


def analyse(path: Path, settings: AnalysisSettings) -> Analysis:
    """Return the analysis of a file: a stored one, else a new one, which is stored. Raises VideoError, OSError."""
    sha256 = file_sha256(path)
    if (stored := stored_analysis(sha256, settings)) is not None:
        return stored
    found, target = _analyse(path, sha256, settings), _path(sha256, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.part")
    draft.write_text(json.dumps(asdict(found)), encoding="utf-8", newline="\n")
    replace_file(draft, target)
    return found


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises VideoError for a pipe, which would never end, and a folder."""
    if problem := problem_of(path):
        raise VideoError(problem)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_analysis(sha256: str, settings: AnalysisSettings) -> Analysis | None:
    """Return the stored analysis of a file with these contents; None if there is none, or a crash left it unreadable."""
    try:
        return Analysis.from_facts(json.loads(_path(sha256, settings).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _path(sha256: str, settings: AnalysisSettings) -> Path:
    return settings.work / sha256[:2] / f"{sha256}-{settings.key}.json"


def _analyse(path: Path, sha256: str, settings: AnalysisSettings) -> Analysis:
    with VideoReader(path, settings.threads) as video:
        detector = DETECTORS[settings.shots](settings.work)
        frames = video.frames(short_side(SIDE))
        found: list[Shot] = []
        for piece in split_shots(frames, detector, video.stream.base, settings.longest):
            found.append(_shot(piece.start, piece.stamps, video.stream, piece.metrics))
    stream, count = video.stream, found[-1].stop if found else 0
    seconds = round(sum(shot.seconds for shot in found), 3)
    return Analysis(
        sha256, stream.size, stream.codec, stream.hdr, count, seconds, found, _missing_seconds(stream, seconds)
    )


def _missing_seconds(stream: StreamInfo, seconds: float) -> float:
    """How much shorter a file is than its header states, if that leaves out the frame count. Sound may be longer too."""
    truncated = stream.timed and not stream.frames and seconds < stream.seconds * (1 - TRUNCATED) - 1
    return round(stream.seconds - seconds, 2) if truncated else 0.0


def _shot(start: int, stamps: list[int], stream: StreamInfo, metrics: ShotMetrics) -> Shot:
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
        metrics,
    )
