"""The queue of the jobs in a folder: all that can be asked of it, without HTTP."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.runs.jobs.progress import JobEvents, Listener, Progress
from longtake.runs.jobs.records.folder import Job, Sender, preview_file
from longtake.runs.jobs.records.other_runs import is_other_run
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.sent import sent_before
from longtake.runs.jobs.states import (
    ACTIVE,
    COMPLETED,
    DELETED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPING,
    JobError,
    NoSuchJob,
    QueueFull,
    WrongState,
)
from longtake.runs.jobs.store import JobStore
from longtake.runs.jobs.workers.process import COMMAND
from longtake.runs.jobs.workers.supervisor import Order, Supervisor

MOST_QUEUED = 256
RETRY_SECONDS = 1.0  # between two attempts to note how a job ended, while the disk is full
WAIT_SECONDS = 1.0  # between two looks at jobs that somebody waits for


@dataclass(frozen=True)
class Page:
    """A part of the list of jobs. more: whether others follow."""

    jobs: list[Job]
    more: bool


class JobQueue:
    """The jobs in the folders of `root`. One process at a time has it open; QueueInUse names the other one.

    most_queued: jobs that may wait. Call `start` for workers, and `close` at the end. All methods are safe in threads.
    """

    def __init__(self, root: Path | str, *, most_queued: int = MOST_QUEUED):
        self.store, self.most_queued = JobStore(root), most_queued
        self.root = self.store.root
        self._changed = threading.Condition(self.store.lock)
        self._supervisors: list[Supervisor] = []
        self._events = JobEvents()
        self._closed = False

    def start(self, devices: Sequence[str] = ("auto",), command: Sequence[str] = COMMAND) -> None:
        """Start a worker for each device. command: what starts one."""
        for device in devices:
            log = self.store.own / f"worker-{device.replace(':', '-')}.log"
            supervisor = Supervisor(self, device, log, command)
            self._supervisors.append(supervisor)
            supervisor.start()

    def close(self) -> None:
        """End the workers; the next one who opens the queue goes on with their jobs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for supervisor in self._supervisors:
            supervisor.close()
        self.store.close()

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call a function with the id of a job and each of its events, from any thread; returns what ends that."""
        return self._events.listen(listener)

    # ------------------------------------------------------------ questions
    def get(self, id: str) -> Job:
        """Return a job. NoSuchJob if there is none of this id."""
        return self.store.get(id)

    def page(self, after: str | None = None, limit: int = 20, order: str = "desc") -> Page:
        """Return jobs in the order in which they were asked for (asc), or the newest first. after: the id before them."""
        before = None if after is None else self.get(after)
        jobs = self.store.after(before, limit + 1, order == "desc")
        return Page(jobs[:limit], len(jobs) > limit)

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        return self.store.counts()

    def progress(self, id: str) -> Progress | None:
        """Return how far a job is that a worker has; None for any other job."""
        return self._events.progress(id)

    def preview(self, id: str) -> Path | None:
        """Return the last preview of a video, a .png file, and have further ones drawn for a while; None before the first."""
        job = self.get(id)
        for supervisor in self._supervisors:
            supervisor.preview(id)
        return path if (path := preview_file(job.folder)).is_file() else None

    @property
    def workers(self) -> list[int]:
        """The process numbers of the workers that run."""
        return [pid for supervisor in self._supervisors if (pid := supervisor.pid) is not None]

    @property
    def restarts(self) -> Counter[str]:
        """How often a worker died with a job, by the code of the reason."""
        return sum((supervisor.restarts for supervisor in self._supervisors), Counter())

    # ------------------------------------------------------------ requests
    def submit(
        self, requests: JobRequest | Sequence[JobRequest], *, inputs: Mapping[str, Path] | None = None,
        sender: Sender | None = None, resent: bool = False, origin: Mapping[str, str] | None = None,
    ) -> list[Job]:  # fmt: skip
        """Queue jobs, all of them or none, and return them; those of an earlier call where this one repeats it.

        inputs: files by kind, which are copied. sender: who asks; a call with its key again, or (resent) with its
        fingerprint within minutes, is the same call. QueueFull, or KeyReused for a key that came with another request.
        """
        wanted, files = [requests] if isinstance(requests, JobRequest) else list(requests), dict(inputs or {})
        with self._changed:
            if sender is not None and (before := sent_before(self.store, sender, resent)):
                return before
            waiting = self.counts().get(QUEUED, 0)
            if waiting + len(wanted) > self.most_queued:
                raise QueueFull(f"{waiting} jobs wait already, and the queue holds {self.most_queued}: try again later")
            made = [self.store.new(request.with_inputs(files), sender, origin) for request in wanted]
            if len(made) > 1:
                made = [replace(job, variations=tuple(one.id for one in made)) for job in made]
            self.store.create(made, files)
            self._changed.notify_all()
        for job in made:
            self.notify(job.id, {"event": "state", "state": QUEUED})
        return made

    def stop(self, id: str) -> Job:
        """End a video after its current segment and keep it; one that waits leaves the queue. Returns the job."""
        with self._changed:
            job = self.get(id)
            if job.status.state in (*ENDED, STOPPING):
                return job
            if is_other_run(job.folder):
                raise _elsewhere(job, "resume")
            if job.status.state == QUEUED:
                error = JobError("stopped", "the video was stopped while it waited; it can be resumed")
                return self._change(job, FAILED, stopped=True, error=error)
            job = self._change(job, STOPPING, stopped=True)
        for supervisor in self._supervisors:
            supervisor.stop(id)
        return job

    def resume(self, id: str) -> Job:
        """Queue a video again that failed or was stopped. WrongState if it is complete, or has not ended."""
        with self._changed:
            job = self.get(id)
            state = job.status.state
            if state == COMPLETED and not job.status.stopped:
                raise WrongState(f"the video {id} is complete: extend it instead", state)
            if state not in ENDED:
                raise WrongState(f"the video {id} is {state}, so there is nothing to resume", state)
            status = {"position": self.store.number(), "stopped": False, "error": None}
            if is_other_run(job.folder):
                self.store.adopt(job)
            return self._change(job, QUEUED, **status)

    def delete(self, id: str) -> None:
        """Delete a job: the worker leaves it within two seconds or is killed, and its folder goes to the trash."""
        with self._changed:
            job = self.get(id)
            if is_other_run(job.folder):
                if job.status.state == RUNNING:
                    raise _elsewhere(job, "delete")
                self.store.forget(job)
                return
            job = self._change(job, DELETED)
        for supervisor in self._supervisors:
            supervisor.cancel(id)
        self.store.move_to_trash(job)

    def wait(self, jobs: Iterable[Job | str]) -> Iterator[Job]:
        """Yield jobs, given themselves or by their ids, as each of them ends; one that is deleted meanwhile is left out."""
        left = {job if isinstance(job, str) else job.id for job in jobs}
        while left:
            with self._changed:
                found = [job for job in self.store.present(sorted(left)) if job.status.state in ENDED]
                left &= {job.id for job in self.store.present(sorted(left))}
                if left and not found:
                    self._changed.wait(WAIT_SECONDS)
            yield from found
            left -= {job.id for job in found}

    # ------------------------------------------------------------ for supervisors
    def claim(self, seconds: float, taken: Callable[[Order], None] = lambda order: None) -> Order | None:
        """Take the next job, waiting for one so many seconds. taken: called with it before the job can be stopped or deleted."""
        with self._changed:
            if (order := self._next()) is None and not self._closed:
                self._changed.wait(seconds)
                order = self._next()
            if order is not None:
                taken(order)
            return order

    def began(self, id: str, video: Mapping[str, Any]) -> None:
        """Note that a worker generates the video, and what is known of it."""
        following = lambda job: STOPPING if job.status.state == STOPPING else RUNNING
        self._noted(id, lambda job: self._change(job, following(job), video=dict(video)))

    def interrupted(self, id: str) -> None:
        """Note that a job waits again at its place, since its worker was asked to end: another one goes on with it."""

        def waits(job: Job) -> object:
            return self._change(job, QUEUED, stopped=job.status.stopped or job.status.state == STOPPING)

        self._noted(id, waits)

    def ended(self, id: str, error: JobError | None, stopped_at: int | None = None) -> None:
        """Note how a job ended, and how many frames it has. stopped_at: those of a video that was stopped before its end."""
        state, stopped = COMPLETED if error is None else FAILED, stopped_at is not None
        progress = None if error is None else self.progress(id)
        done = stopped_at if progress is None else progress.frames
        frames = {} if done is None else {"frames_done": done}
        self._noted(
            id,
            lambda job: self._change(job, state, stopped=stopped, error=error, video={**job.status.video, **frames}),
        )

    def notify(self, id: str, event: dict[str, Any]) -> None:
        """Pass an event on to all listeners."""
        self._events.notify(id, event)

    # ------------------------------------------------------------ the inside
    def _next(self) -> Order | None:
        job = None if self._closed else self.store.first_in(QUEUED)
        if job is None:
            return None
        try:
            self._change(job, STARTING)
        except OSError:  # the disk is full: the job waits on
            return None
        return Order(job.id, job.folder, job.status.stopped)

    def _noted(self, id: str, change: Callable[[Job], object]) -> None:
        """Make a change that a worker reports; while the disk is full, try again. One of a deleted job is dropped."""
        while not self._closed:
            try:
                with self._changed:
                    job = self.get(id)
                    if job.status.state in ACTIVE:
                        change(job)
                return
            except NoSuchJob:
                return
            except OSError:
                time.sleep(RETRY_SECONDS)

    def _change(self, job: Job, state: str, **values: Any) -> Job:
        changed = self.store.change(job, state, **values)
        with self._changed:
            self._changed.notify_all()
        self.notify(job.id, {"event": "state", "state": state})
        return changed


def _elsewhere(job: Job, action: str) -> WrongState:
    message = f"the video {job.id} is written by a program outside of this queue: end it there, then {action} it here"
    return WrongState(message, RUNNING)
