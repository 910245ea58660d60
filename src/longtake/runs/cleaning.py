"""Which runs take how much disk, and the removal of those that are no longer wanted.

Only what longtake wrote is removed: files of other names stay, and the folder with them. Links are never followed, and a run
is locked while it is removed, so that no other process can be writing it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from longtake.core.files import json_object
from longtake.core.platform import lock_file
from longtake.runs.files import journal, output_record
from longtake.runs.files.durable import TEMPORARY
from longtake.runs.files.errors import RunError
from longtake.runs.files.layout import Layout, locked

HIDDEN = ".longtake"  # folder that a job queue has under its root
DEEPEST, MOST_BYTES = 8, 1 << 26  # folders below the one that is searched; bytes of a run.json
SNAPSHOT = re.compile(r"w\d{6,}\.(safetensors|json)")
OWN = {
    "snapshots": SNAPSHOT,
    "media": re.compile(r"s\d{6,}\.m4s|init\.mp4"),
    "job": re.compile(r"starred"),  # of a run that is no job of a queue
    "inputs": re.compile(r"(image|last_image|anchor_image|video|input_video|control)\.\w+"),
}  # the names that longtake gives to files in a folder of a run


class State(Enum):
    """How far a run is."""

    FINISHED = "finished"
    UNFINISHED = "unfinished"
    RUNNING = "running"
    QUEUED = "of a job queue"  # whose server removes it
    DELETED = "deleted"  # by a server, which moved it to the trash


@dataclass(frozen=True)
class Usage:
    """A run and the disk that it takes.

    changed: when it was last written, in seconds since 1970. snapshots, everything: bytes that become free if only its
    snapshots, or all of its files, are removed; a file that has another name elsewhere frees nothing. kept_at: the finished
    file that stays when the run directory goes, None if the video goes with it.
    """

    folder: Path
    state: State
    changed: float
    snapshots: int
    everything: int
    kept_at: Path | None = None


@dataclass(frozen=True)
class Choice:
    """Which runs to remove. older: seconds since they were last written. larger: bytes that they take.

    keep_last: how many of the newest stay, of all that are found. unfinished: runs that can still be resumed, too.
    deleted: those in the trash of a job queue.
    """

    older: float | None = None
    larger: int | None = None
    keep_last: int = 0
    unfinished: bool = False
    deleted: bool = False

    @property
    def chooses(self) -> bool:
        """Whether anything was chosen."""
        return self._by_facts or self.deleted

    @property
    def _by_facts(self) -> bool:
        return self.older is not None or self.larger is not None or self.keep_last > 0

    def of(self, usages: Sequence[Usage], now: float | None = None) -> list[Usage]:
        """Return the runs to remove, oldest first; never one that is being generated or waits in a queue."""
        now = time.time() if now is None else now
        trash = [one for one in usages if one.state is State.DELETED] if self.deleted else []
        return [*trash, *(self._chosen(usages, now) if self._by_facts else ())]

    def _chosen(self, usages: Sequence[Usage], now: float) -> list[Usage]:
        states = {State.FINISHED, *([State.UNFINISHED] if self.unfinished else [])}
        newest = sorted((one for one in usages if one.state in states), key=lambda one: -one.changed)
        return [
            one
            for one in reversed(newest[self.keep_last :])
            if (self.older is None or now - one.changed > self.older)
            and (self.larger is None or one.everything > self.larger)
        ]


def find_runs(folder: Path) -> Iterator[Usage]:
    """Yield the runs in a folder and the folders in it, or the run that it is, in the order of their names."""
    yield from _find(folder, DEEPEST)


def _find(folder: Path, deeper: int) -> Iterator[Usage]:
    if _is_run(folder):
        yield _usage(Layout(folder))
    elif deeper:
        trash = _entries(folder / HIDDEN / "trash")
        yield from (_deleted(entry) for entry in trash if entry.is_dir(follow_symlinks=False))
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _find(Path(entry.path), deeper - 1)


def _deleted(entry: os.DirEntry[str]) -> Usage:
    files = [path for path in Path(entry.path).rglob("*") if _is_file(path)]
    free = sum(path.lstat().st_size for path in files)
    return Usage(Path(entry.path), State.DELETED, entry.stat(follow_symlinks=False).st_mtime, 0, free)


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run.json of longtake, or what is left of a run that was asked not to be kept."""
    layout = Layout(folder)
    if _is_file(layout.manifest):
        try:
            if layout.manifest.stat().st_size > MOST_BYTES:
                return False
            return {"schema", "settings", "weights"} <= json_object(layout.manifest.read_bytes()).keys()
        except (OSError, ValueError):
            return False
    return _is_file(layout.output) and output_record.load(folder) is not None


def _usage(layout: Layout) -> Usage:
    found = [(path, path.lstat()) for path in _own_files(layout)]
    free = {path: about.st_size for path, about in found if about.st_nlink == 1}
    snapshots = sum(size for path, size in free.items() if path.parent == layout.snapshots)
    record = output_record.load(layout.folder)
    file = None if record is None else record.finished.path(layout.folder)
    kept = file if file is not None and _is_file(file) else None
    changed = max((about.st_mtime for path, about in found if path != layout.lock), default=0.0)
    return Usage(layout.folder, _state(layout), changed, snapshots, sum(free.values()), kept)


def _state(layout: Layout) -> State:
    if os.path.lexists(layout.folder / "job" / "job.json"):
        return State.QUEUED
    if any(_is_locked(path) for path in (layout.lock, layout.output)):
        return State.RUNNING
    if not _is_file(layout.manifest):
        return State.FINISHED  # what was not to be kept is gone already
    try:
        return State.FINISHED if journal.done_line(layout.journal) else State.UNFINISHED
    except (OSError, ValueError, RunError):  # also a run of another version
        return State.UNFINISHED


def _is_locked(path: Path) -> bool:
    if not _is_file(path):
        return False
    try:
        with open(path, "rb+", buffering=0) as file:
            return not lock_file(file)
    except OSError:
        return True


def remove(usages: Sequence[Usage], only_snapshots: bool = False) -> Iterator[tuple[Usage, str]]:
    """Remove runs, or their snapshots alone; yield each with a remark: why it was left, or what stayed, else "".

    A process that is killed in between leaves runs that the next call removes.
    """
    for one in usages:
        layout = Layout(one.folder)
        if one.state is State.DELETED:
            shutil.rmtree(one.folder, ignore_errors=True)
            yield one, "left alone: it cannot be removed" if one.folder.exists() else ""
            continue
        if not _is_run(one.folder):
            yield one, "it is gone already"
            continue
        try:
            with locked(layout):
                now = _state_while_locked(layout)
                if now is not one.state:
                    yield one, f"left alone: it is {now.value} now"
                    continue
                left = _remove(layout, only_snapshots)
            if not only_snapshots:
                left = _remove_folders(layout)
        except (OSError, RunError) as error:
            yield one, f"left alone: {error}"
            continue
        yield one, f"{left} stays, since longtake did not write it" if left else ""


def _state_while_locked(layout: Layout) -> State:
    """Return the state of a run whose lock this process has."""
    if os.path.lexists(layout.folder / "job" / "job.json"):
        return State.QUEUED
    if _is_locked(layout.output):
        return State.RUNNING
    done = not _is_file(layout.manifest) or journal.done_line(layout.journal)
    return State.FINISHED if done else State.UNFINISHED


def _remove(layout: Layout, only_snapshots: bool) -> str:
    """Delete the files of a run but its lock; run.json and the journal go last, so that the rest stays a run until then."""
    last = [layout.journal, layout.output, layout.manifest]
    first = [path for path in _own_files(layout) if path not in (*last, layout.lock)]
    for path in [*first, *last] if not only_snapshots else first:
        if not only_snapshots or path.parent == layout.snapshots:
            path.unlink(missing_ok=True)
    return ""


def _remove_folders(layout: Layout) -> str:
    """Delete the lock and the empty folders; return the name of something else that stays, or ""."""
    layout.lock.unlink(missing_ok=True)
    for folder in (*(layout.folder / name for name in OWN), layout.folder):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            other = next((entry.path for entry in _entries(folder)), "")
            if folder == layout.folder:
                return other
    return ""


def _own_files(layout: Layout) -> Iterator[Path]:
    """Yield the files that longtake wrote into a run directory; links are none."""
    for path in layout.named_files:
        if _is_file(path):
            yield path
    for entry in _entries(layout.folder):
        if entry.name.endswith(TEMPORARY) and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif entry.name in OWN and entry.is_dir(follow_symlinks=False):
            for file in _entries(Path(entry.path)):
                named = OWN[entry.name].fullmatch(file.name) or file.name.endswith(TEMPORARY)
                if named and file.is_file(follow_symlinks=False):
                    yield Path(file.path)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
