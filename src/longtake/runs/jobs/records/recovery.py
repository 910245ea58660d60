"""Reading the jobs back from their folders: all that a new server, or a new index, needs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from longtake.core.platform import replace_file, sync_folder
from longtake.runs.cleaning import HIDDEN
from longtake.runs.files import journal
from longtake.runs.files.errors import RunError
from longtake.runs.files.layout import Layout
from longtake.runs.jobs.records.folder import Job, append_status, read_job
from longtake.runs.jobs.records.index import Index, Row
from longtake.runs.jobs.states import ACTIVE, COMPLETED, DELETED, QUEUED, STOPPING, Status

KEY_SECONDS = 24 * 3600.0


def folders_in(root: Path) -> list[Path]:
    """Return the folders under a root that are not its own; links are not followed."""
    with os.scandir(root) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(folder for folder in found if folder.name != HIDDEN)


def jobs_in(root: Path) -> Iterator[Job]:
    """Yield every job in the folders of a root, the deleted ones too."""
    with os.scandir(root) as entries:
        folders = [
            Path(entry.path) for entry in entries if entry.name != HIDDEN and entry.is_dir(follow_symlinks=False)
        ]
    for folder in sorted(folders):
        if (job := read_job(folder)) is not None:
            yield job


def settle(root: Path, staging: Path, trash: Path) -> None:
    """Bring the folders in order after the process that worked on them died at any moment.

    Jobs that a worker had are queued again at their old position, or completed if their video was; deleted ones go to the
    trash, and folders that were not ready yet are removed.
    """
    shutil.rmtree(staging, ignore_errors=True)
    for job in jobs_in(root):
        if job.status.state == DELETED:
            move_to_trash(job.folder, trash)
        elif job.status.state in ACTIVE:
            append_status(job.folder, _after_death(job))


def _after_death(job: Job) -> Status:
    was = job.status
    state, stopped = QUEUED, was.stopped or was.state == STOPPING
    if _is_complete(job.folder):
        state, stopped = COMPLETED, False
    return replace(was, state=state, at=time.time(), stopped=stopped)


def _is_complete(folder: Path) -> bool:
    try:
        return journal.done_line(Layout(folder).journal) is not None
    except (RunError, OSError):
        return False  # the worker names what is wrong


def rebuild(index: Index, root: Path, trash: Path) -> None:
    """Fill the index from the folders, with the deleted jobs whose idempotency keys still count."""
    with index.transaction():
        for row in index.all():
            index.delete(row["id"])
        for job in (*deleted_in(trash), *jobs_in(root)):
            if job.status.state != DELETED or keeps_key(job):
                index.put(row_of(job))


def deleted_in(trash: Path) -> Iterator[Job]:
    """Yield the jobs in the trash."""
    return jobs_in(trash) if trash.is_dir() else iter(())


def keeps_key(job: Job) -> bool:
    """Whether the idempotency key of a deleted job still counts: for a day, a request with it makes no other job."""
    return job.sender is not None and job.sender.key is not None and time.time() - job.status.at < KEY_SECONDS


def row_of(job: Job) -> Row:
    """Return the row that the index has for a job."""
    sender = {} if job.sender is None else vars(job.sender)
    own = {
        "id": job.id,
        "folder": job.folder.name,
        "number": job.number,
        "state": job.status.state,
        "position": job.status.position,
        "status": json.dumps(job.status.facts()),
        "job": json.dumps(job.facts()),
    }
    return {**own, **sender}


def job_of(row: Row, root: Path) -> Job:
    """Return the job of a row. root: the folder that its run directory lies in."""
    status = Status.from_facts(json.loads(row["status"]))
    return Job.from_facts(json.loads(row["job"]), root / row["folder"], status)


def move_to_trash(folder: Path, trash: Path) -> None:
    """Move the folder of a job to the trash, under a name that is free there."""
    trash.mkdir(parents=True, exist_ok=True)
    number, target = 1, trash / folder.name
    while target.exists():
        number, target = number + 1, trash / f"{folder.name}-{number}"
    try:
        replace_file(folder, target)
    except FileNotFoundError:
        return  # somebody removed it
    sync_folder(folder.parent)
