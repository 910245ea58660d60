"""The events that a run adds to those of the engine: run opened, segment written, snapshot saved, video published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.engine.events import Event as EngineEvent


@dataclass(frozen=True)
class RunOpened:
    """The run directory is open. frames: output frames before the next window; segments: segments on disk."""

    folder: Path
    frames: int
    segments: int


@dataclass(frozen=True)
class SegmentWritten:
    """A segment is durable, so a viewer may see it. first: number of its first output frame.

    repeated: a resume generated it again, and the journal held it already.
    """

    index: int
    first: int
    frames: int
    path: Path
    bytes: int
    sha256: str
    repeated: bool = False


@dataclass(frozen=True)
class SnapshotSaved:
    """A snapshot is durable: from now on a resume continues after window `window`, at output frame `frames`."""

    window: int
    frames: int
    bytes: int


@dataclass(frozen=True)
class PublishedVideo:
    """video.mp4 and the contact sheet of the first `segments` segments, which hold `frames` output frames.

    bytes, sha256: of video.mp4. sheet_sha256: of the contact sheet.
    """

    video: Path
    sheet: Path
    segments: int
    frames: int
    bytes: int
    sha256: str
    sheet_sha256: str

    def facts(self) -> dict[str, Any]:
        """Return the keys of its journal line."""
        names = ("segments", "frames", "bytes", "sha256", "sheet_sha256")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def from_facts(video: Path, sheet: Path, facts: Mapping[str, Any]) -> PublishedVideo:
        """Return the video that a journal line records."""
        return PublishedVideo(video, sheet, **{name: value for name, value in facts.items() if name != "kind"})


@dataclass(frozen=True)
class RunFinished:
    """The video is complete."""

    published: PublishedVideo


@dataclass(frozen=True)
class FileWritten:
    """The finished file that was asked for is complete. bytes, sha256: of the file. run_kept: the run directory stays."""

    path: Path
    bytes: int
    sha256: str
    run_kept: bool = True


Event = EngineEvent | RunOpened | SegmentWritten | SnapshotSaved | FileWritten | RunFinished
