"""The paths of a run directory, what may lie at them, and the lock that keeps a second writer out.

Links inside a run directory are never followed, and nothing is opened that may hang.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from longtake.core.platform import lock_file, stop_command
from longtake.runs.files.errors import OPENING, RunError, explained

PROBE_SECONDS = 0.1  # that `is_locked` of other processes may hold a lock, and much more
NO_FOLDER = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISREG, "a file"),
)


@dataclass(frozen=True)
class Layout:
    """The paths of the files in a run directory."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """run.json: settings, seed, versions and the hash of the weights."""
        return self.folder / "run.json"

    @property
    def journal(self) -> Path:
        """journal.jsonl: one line for every durable segment, and for every event that a resume must know."""
        return self.folder / "journal.jsonl"

    @property
    def playlist(self) -> Path:
        """index.m3u8: the HLS playlist for players."""
        return self.folder / "index.m3u8"

    @property
    def snapshots(self) -> Path:
        """The folder of snapshots, from which a run is resumed."""
        return self.folder / "snapshots"

    @property
    def inputs(self) -> Path:
        """The folder with copies of the input files."""
        return self.folder / "inputs"

    @property
    def media(self) -> Path:
        """The folder of segments."""
        return self.folder / "media"

    @property
    def init(self) -> Path:
        """init.mp4: the header that all segments share."""
        return self.media / "init.mp4"

    @property
    def edit_requests(self) -> Path:
        """edits.jsonl: the edits of the script that users requested."""
        return self.folder / "edits.jsonl"

    @property
    def edit_horizon(self) -> Path:
        """edit_horizon.json: the first output frame that an edit can still change."""
        return self.folder / "edit_horizon.json"

    @property
    def lock(self) -> Path:
        """LOCK: locked by the process that writes the run, and holds its process id."""
        return self.folder / "LOCK"

    @property
    def output(self) -> Path:
        """output.json: the command that asked for the run, and the finished file that it becomes."""
        return self.folder / "output.json"

    @property
    def video(self) -> Path:
        """video.mp4: all segments as one file."""
        return self.folder / "video.mp4"

    @property
    def sheet(self) -> Path:
        """sheet.png: the contact sheet."""
        return self.folder / "sheet.png"

    @property
    def named_files(self) -> list[Path]:
        """The files of the folder itself, all of those above."""
        names = (self.manifest, self.journal, self.playlist, self.edit_requests, self.edit_horizon, self.lock)
        return [*names, self.output, self.video, self.sheet]

    def segment(self, index: int) -> Path:
        """Return the path of segment `index`."""
        return self.media / segment_name(index)


def segment_name(index: int) -> str:
    """Return the file name of segment `index`."""
    return f"s{index:06d}.m4s"


def check_entries(layout: Layout) -> None:
    """Raise RunError if anything in the folder that longtake reads or writes is a link, a device or of another kind."""
    _expect_no_file(layout.folder)
    with explained(layout.folder, "looking into the run directory"):
        for path in layout.named_files:
            _expect(path, "a file")
        for folder in (layout.media, layout.snapshots, layout.inputs):
            _expect(folder, "a folder")
            if folder.is_dir():
                _expect_files(folder)


def _expect_no_file(folder: Path) -> None:
    """Raise RunError for a path that can never be a folder: a file, or one below a file or in a circle of links."""
    try:
        if stat.S_ISDIR(os.stat(folder).st_mode):
            return
    except OSError as error:
        if error.errno not in NO_FOLDER:
            return
        raise RunError(f"{folder} cannot be a folder ({os.strerror(error.errno).lower()}): give another one") from None
    raise RunError(f"{folder} is a file, not a run directory: give the folder that `longtake generate` made")


def _expect_files(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                _expect(Path(entry.path), "a file")


def _expect(path: Path, kind: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    found = next((name for is_kind, name in KINDS if is_kind(mode)), "of an unknown kind")
    if found == kind:
        return
    if found == "a link":
        raise RunError(
            f"{path} is a link, and links inside a run directory are never followed: put {kind} in its place, or choose "
            "another folder (the run directory as a whole may be a link)"
        )
    raise RunError(f"{path} is {found} where {kind} belongs: remove it, or choose another folder")


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Be the only process that writes the run, else raise RunError. The lock ends with the process, however that ends."""
    with explained(layout.folder, OPENING):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = open(os.open(layout.lock, flags, 0o666), "a+b", buffering=0)  # noqa: SIM115
    with file:
        if not _lock(file):
            file.seek(0)
            pid = file.read().decode().strip() or "unknown"
            raise RunError(
                f"{layout.folder} is being written by process {pid}: let it finish, or stop it with `{stop_command(pid)}`"
            )
        with explained(layout.folder, OPENING):
            if os.fstat(file.fileno()).st_nlink == 1:  # else a hard link, such as that of a backup, shares its contents
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), f"{os.getpid()}\n".encode())
        yield


def is_locked(layout: Layout) -> bool:
    """Whether a process writes the run now."""
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return False
    with open(descriptor, "r+b", buffering=0) as file:
        return not lock_file(file)


def _lock(file: FileIO) -> bool:
    """Lock a file; a process that only asks whether it is locked holds it for a moment."""
    until = time.monotonic() + PROBE_SECONDS
    while not lock_file(file):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
