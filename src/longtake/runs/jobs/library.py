"""What a person does with the videos of a queue: reorder those that wait, star some, bring a deleted one back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from longtake.core.platform import replace_file, sync_folder
from longtake.runs.jobs.numbering import is_id
from longtake.runs.jobs.records.folder import Job, append_status, read_job, statuses
from longtake.runs.jobs.records.recovery import job_of, row_of
from longtake.runs.jobs.states import DELETED, ENDED, FAILED, QUEUED, JobError, NoSuchJob, Status, WrongState
from longtake.runs.jobs.store import JobStore

RESTORED = JobError("stopped", "the video was deleted while it waited or was generated; it can be resumed")


class Jobs(Protocol):
    """What is needed of a queue: its store, and that it passes events on."""

    store: JobStore

    def get(self, id: str) -> Job:
        """Return a job. NoSuchJob if there is none of this id."""

    def notify(self, id: str, event: dict[str, Any]) -> None:
        """Pass an event on to all listeners."""


def waiting(queue: Jobs) -> list[Job]:
    """Return the jobs that wait, in the order in which they will be generated."""
    rows = queue.store.indexed(lambda index: index.all())
    jobs = [job_of(row, queue.store.root) for row in rows if row["state"] == QUEUED]
    return sorted(jobs, key=lambda job: (job.status.position, job.id))


def move(queue: Jobs, id: str, place: int) -> None:
    """Move a job that waits to a place among those that wait, from 0. WrongState if it does not wait any more."""
    with queue.store.lock:
        job, jobs = queue.get(id), waiting(queue)
        if job.status.state != QUEUED:
            raise WrongState(f"the video {id} is {job.status.state}, so it has no place in the queue", job.status.state)
        positions = [one.status.position for one in jobs]
        order = [one for one in jobs if one.id != id]
        order.insert(max(0, min(place, len(order))), job)
        moved = [(one, position) for one, position in zip(order, positions) if one.status.position != position]
        for one, position in moved:
            queue.store.change(one, QUEUED, position=position)
    for one, _ in moved:
        queue.notify(one.id, {"event": "state", "state": QUEUED})


# ------------------------------------------------------------ stars
def star_file(folder: Path) -> Path:
    """Return the path of the empty file that marks a video as starred."""
    return folder / "job" / "starred"


def is_starred(job: Job) -> bool:
    """Whether a video is starred."""
    return star_file(job.folder).exists()


def set_star(queue: Jobs, id: str, starred: bool) -> Job:
    """Star a video, or take its star away; return the job."""
    job = queue.get(id)
    path = star_file(job.folder)
    if starred:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)
    queue.notify(id, {"event": "state", "state": job.status.state})
    return job


# ------------------------------------------------------------ the trash
def restore(queue: Jobs, id: str) -> Job:
    """Bring a deleted job back from the trash, ended as it was; one that had not ended can be resumed. NoSuchJob if it is not there."""
    with queue.store.lock:
        kept = queue.store.trash / id
        job = read_job(kept) if is_id(id) and kept.is_dir() else None
        folder = queue.store.root / id
        if job is None or job.status.state != DELETED or folder.exists():
            raise NoSuchJob(f"the trash holds no video {id[:80]!r}")
        before = next((one for one in reversed(statuses(kept)) if one.state != DELETED), job.status)
        status = _as_before(before)
        replace_file(kept, folder)
        sync_folder(folder.parent)
        append_status(folder, status)
        restored = replace(job, folder=folder, status=status)
        queue.store.indexed(lambda index: index.put(row_of(restored)))
    queue.notify(id, {"event": "state", "state": status.state})
    return restored


def _as_before(before: Status) -> Status:
    if before.state in ENDED:
        return replace(before, at=time.time())
    return replace(before, state=FAILED, at=time.time(), stopped=True, error=RESTORED)
