"""The store of a queue: the folders of the jobs, and their index. Every change of a state is one durable line and one transaction."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from longtake.core.platform import lock_file, replace_file, sync_folder
from longtake.runs.files.durable import write_file
from longtake.runs.jobs.numbering import RUN_ID, is_id, new_id, next_number
from longtake.runs.jobs.records.folder import Job, Sender, append_status, stage_job
from longtake.runs.jobs.records.index import Index, IndexDamaged, Row
from longtake.runs.jobs.records.other_runs import is_other_run, read_run, status_of
from longtake.runs.jobs.records.recovery import (
    HIDDEN,
    folders_in,
    job_of,
    keeps_key,
    move_to_trash,
    rebuild,
    row_of,
    settle,
)
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.states import DELETED, QUEUED, NoSuchJob, QueueInUse, Status, check_next

T = TypeVar("T")
LOOK_SECONDS = 1.0  # between two looks for runs that other programs made
BLOCK = 1 << 20  # bytes that are copied at a time


class JobStore:
    """The jobs in the folders of `root`. One process at a time has it open; QueueInUse names the other one.

    lock: to be held over several calls that belong together. All methods are safe in threads.
    """

    def __init__(self, root: Path | str):
        self.root = Path(root).resolve()
        self.own = self.root / HIDDEN
        self.own.mkdir(parents=True, exist_ok=True)
        self._file = _locked(self.own / "LOCK", self.root)
        self.lock = threading.RLock()
        settle(self.root, self.own / "new", self.trash)
        self._index = self._opened_index()
        rebuild(self._index, self.root, self.trash)
        self._last = self._index.last_number()
        self._looked = -LOOK_SECONDS
        self._find_other_runs()

    @property
    def trash(self) -> Path:
        """The folder that deleted jobs are moved to."""
        return self.own / "trash"

    def close(self) -> None:
        """Close the index, and let another process have the folder."""
        with self.lock:
            self._index.close()
            self._file.close()

    # ------------------------------------------------------------ questions
    def get(self, id: str) -> Job:
        """Return a job. NoSuchJob if there is none of this id."""
        self._find_other_runs()
        found = self._found(lambda index: [index.get(id)]) if is_id(id) else []
        if not found:
            raise NoSuchJob(f"there is no video {id!r}")
        return found[0]

    def present(self, ids: Sequence[str]) -> list[Job]:
        """Return those of the jobs that there are."""
        return self._found(lambda index: [index.get(id) for id in ids])

    def after(self, job: Job | None, limit: int, descending: bool) -> list[Job]:
        """Return at most `limit` jobs that follow a job (None: from the start) in the order of their numbers."""
        self._find_other_runs()
        row = None if job is None else row_of(job)
        return self._found(lambda index: index.page(row, limit, descending))

    def first_in(self, state: str) -> Job | None:
        """Return the job of a state that is first in the queue."""
        return next(iter(self._found(lambda index: [index.next_in(state)])), None)

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        return self.indexed(lambda index: index.counts())

    def sent(self, sender: Sender) -> list[Job]:
        """Return the jobs that a sender asked for with the same idempotency key."""
        return self._found(lambda index: index.sent(sender.scope, sender.action, sender.key or ""))

    def alike(self, sender: Sender) -> Job | None:
        """Return the last job that a sender asked for with the same fields."""
        found = self._found(lambda index: [index.alike(sender.scope, sender.action, sender.fingerprint)])
        return next(iter(found), None)

    # ------------------------------------------------------------ changes
    def new(self, request: JobRequest, sender: Sender | None, origin: Mapping[str, str] | None) -> Job:
        """Return a new job, which is not on disk yet."""
        id, number, now = new_id(), self.number(), time.time()
        return Job(id, self.root / id, number, now, request, Status(QUEUED, now, number), sender, origin)

    def create(self, jobs: Sequence[Job], files: Mapping[str, Path]) -> None:
        """Make the folders of new jobs, with copies of their input files, and queue all of them in one transaction.

        Raises OSError if the disk is full; nothing is left of them then.
        """
        staging = self.own / "new"
        with self.lock:
            try:
                for job in jobs:
                    _stage(job, files, staging / job.id)
                for job in jobs:
                    replace_file(staging / job.id, job.folder)
                sync_folder(self.root)
            except OSError:
                for job in jobs:
                    shutil.rmtree(staging / job.id, ignore_errors=True)
                    shutil.rmtree(job.folder, ignore_errors=True)
                raise
            self.indexed(lambda index: _put(index, jobs))

    def adopt(self, job: Job) -> None:
        """Make a job of a run directory that the command line made."""
        with self.lock:
            stage_job(job, job.folder)
            self.indexed(lambda index: _put(index, [job]))

    def change(self, job: Job, state: str, **values: Any) -> Job:
        """Put a job into another state: a durable line in its folder, and the row of the index. WrongState if it cannot be."""
        if state != job.status.state:
            check_next(job.status.state, state, job.id)
        status = replace(job.status, state=state, at=time.time(), **values)
        changed = replace(job, status=status)
        with self.lock:
            append_status(job.folder, status)
            gone = state == DELETED and not keeps_key(changed)
            self.indexed(lambda index: index.delete(job.id) if gone else _put(index, [changed]))
        return changed

    def move_to_trash(self, job: Job) -> None:
        """Move the folder of a deleted job away."""
        move_to_trash(job.folder, self.trash)

    def forget(self, job: Job) -> None:
        """Move a run that is no job to the trash."""
        with self.lock:
            move_to_trash(job.folder, self.trash)
            self.indexed(lambda index: index.delete(job.id))

    def number(self) -> int:
        """Return a number that is higher than all before."""
        with self.lock:
            self._last = next_number(self._last)
            return self._last

    # ------------------------------------------------------------ the inside
    def indexed(self, action: Callable[[Index], T]) -> T:
        """Do something with the index in one transaction; an index that is damaged or gone is rebuilt first."""
        with self.lock:
            try:
                with self._index.transaction():
                    return action(self._index)
            except IndexDamaged:
                self._index.close()
                Index.remove(self._path)
                self._index = self._opened_index()
                rebuild(self._index, self.root, self.trash)
                with self._index.transaction():
                    return action(self._index)

    @property
    def _path(self) -> Path:
        return self.own / "index.sqlite"

    def _opened_index(self) -> Index:
        try:
            return Index(self._path)
        except IndexDamaged:
            Index.remove(self._path)
            return Index(self._path)

    def _find_other_runs(self) -> None:
        """Enter the runs of the command line into the index, and take out those that are gone; at most once a second."""
        with self.lock:
            if time.monotonic() - self._looked < LOOK_SECONDS:
                return
            self._looked = time.monotonic()
            known = self.indexed(lambda index: index.folders())
            there = {folder.name for folder in folders_in(self.root)}
            found = [
                read_run(self.root / name) for name in sorted(there - known.keys()) if is_other_run(self.root / name)
            ]
            gone = [id for name, id in known.items() if name not in there]
            if any(found) or gone:
                self.indexed(lambda index: _put(index, [job for job in found if job is not None], gone))

    def _found(self, question: Callable[[Index], Sequence[Row | None]]) -> list[Job]:
        """Return the jobs of the rows that answer a question; how a run of the command line is doing, its files say."""

        def answered(index: Index) -> list[Job]:
            try:
                return [job_of(row, self.root) for row in question(index) if row is not None]
            except (ValueError, TypeError, KeyError) as error:
                raise IndexDamaged(f"a row is not as it was written ({error})") from error

        return [self._current(job) for job in self.indexed(answered)]

    def _current(self, job: Job) -> Job:
        if job.id.startswith(RUN_ID) and is_other_run(job.folder):
            return replace(job, status=status_of(job.folder, job.status.video, job.number))
        return job


def _stage(job: Job, files: Mapping[str, Path], staging: Path) -> None:
    staging.mkdir(parents=True)
    for kind, name in job.request.inputs.items():
        (staging / "inputs").mkdir(exist_ok=True)
        with open(files[kind], "rb") as file:
            write_file(staging / "inputs" / name, iter(lambda file=file: file.read(BLOCK), b""))  # type: ignore[misc]
    stage_job(job, staging)


def _put(index: Index, jobs: Sequence[Job], gone: Sequence[str] = ()) -> None:
    for id in gone:
        index.delete(id)
    for job in jobs:
        index.put(row_of(job))


def _locked(path: Path, root: Path) -> FileIO:
    """Lock the queue of a folder for this process. QueueInUse if another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
    if lock_file(file):
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        return file
    file.seek(0)
    pid = file.read().decode(errors="replace").strip() or "unknown"
    file.close()
    raise QueueInUse(f"the videos in {root} are served by process {pid}: stop it first, or choose another folder")
