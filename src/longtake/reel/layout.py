"""Where each thing of a reel lives, and who may write it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.reel.disk import SPARE, ReelError, explained, resume


@dataclass(frozen=True)
class Layout:
    """The files of a reel."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """What the reel is: settings, seed, versions, hash of the weights."""
        return self.folder / "run.json"

    @property
    def journal(self) -> Path:
        """A line per durable segment."""
        return self.folder / "journal.jsonl"

    @property
    def playlist(self) -> Path:
        """The HLS playlist, for players."""
        return self.folder / "index.m3u8"

    @property
    def snapshots(self) -> Path:
        """What is needed to go on."""
        return self.folder / "snapshots"

    @property
    def given(self) -> Path:
        """Copies of the files that the video was given."""
        return self.folder / "given"

    @property
    def media(self) -> Path:
        """The segments."""
        return self.folder / "media"

    @property
    def init(self) -> Path:
        """The part that all segments share."""
        return self.media / "init.mp4"

    @property
    def lock(self) -> Path:
        """Held by the process that writes the reel; holds its number."""
        return self.folder / "LOCK"

    @property
    def video(self) -> Path:
        """All segments as one file."""
        return self.folder / "video.mp4"

    @property
    def sheet(self) -> Path:
        """A contact sheet."""
        return self.folder / "sheet.png"

    def segment(self, index: int) -> Path:
        """Segment `index`."""
        return self.media / segment_name(index)


def segment_name(index: int) -> str:
    """File name of segment `index`."""
    return f"s{index:06d}.m4s"


def claim(folder: Path, fresh: bool = False) -> Layout:
    """The layout of a folder that is a reel already, or is new or empty: it is then made. Errors: ReelError.

    fresh: refuse a folder that holds a reel.
    """
    layout = vacant(folder, fresh)
    with explained(folder, "opening the output folder"):
        for path in (folder, layout.media, layout.snapshots):
            path.mkdir(parents=True, exist_ok=True)
    return layout


def vacant(folder: Path, fresh: bool = False) -> Layout:
    """`claim`, but nothing is made yet."""
    layout = Layout(folder)
    with explained(folder, "opening the output folder"):
        if folder.exists() and not folder.is_dir():
            raise ReelError(f"{folder} is a file: choose another output folder")
        if layout.manifest.exists():
            if fresh:
                raise ReelError(
                    f"{folder} already holds a reel: go on with it by {resume(folder)}, or choose another output folder"
                )
        elif layout.journal.exists():
            raise ReelError(f"{folder} is a reel without its run.json: put that file back, or choose another folder")
        elif folder.exists() and any(not _ours(path) for path in folder.iterdir()):
            raise ReelError(f"{folder} is not empty and is not a reel: choose a new or empty output folder")
    return layout


def existing(folder: Path) -> Layout:
    """The layout of a reel. ReelError if the folder is none."""
    layout = Layout(folder)
    if not layout.manifest.is_file():
        raise ReelError(f"{folder} is not a reel (it has no run.json): give the folder that `longtake generate` made")
    return layout


def _ours(path: Path) -> bool:
    """Whether a process that died before run.json was written may have left this."""
    if path.name in ("media", "snapshots"):
        return path.is_dir() and not any(path.iterdir())
    if path.name == "given":
        return path.is_dir() and all(copy.stem.split(".")[0] in ("image", "end", "video") for copy in path.iterdir())
    return path.name == "LOCK" or path.name.endswith(SPARE)


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Be the only process that writes the reel. The lock goes when the process does, however it ends."""
    with explained(layout.folder, "opening the output folder"):
        file = open(layout.lock, "a+b", buffering=0)  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().decode().strip() or "another one"
            raise ReelError(
                f"{layout.folder} is being written by process {pid}: let it finish, or stop it with `kill {pid}`"
            ) from None
        with explained(layout.folder, "opening the output folder"):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())
        yield
