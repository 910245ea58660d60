"""The supervisor of a worker: a thread that hands it one job after the other, and says what became of each."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from longtake.core.platform import KILLED, TERMINATED, end_of
from longtake.runs.jobs.states import JobError
from longtake.runs.jobs.workers.process import COMMAND, WorkerProcess

CANCEL_SECONDS = 2.0  # that a worker has to leave a job that is deleted
IDLE_SECONDS = 1.0  # between two looks for work


@dataclass(frozen=True)
class Order:
    """A job to generate. stop: publish what there is, or end after the first segment."""

    id: str
    folder: Path
    stop: bool = False


class Jobs(Protocol):
    """What a supervisor needs of a queue."""

    def claim(self, seconds: float, taken: Callable[[Order], None]) -> Order | None:
        """Take the next job; None if there is none for so many seconds.

        taken: called with it before anybody else can do something with the job.
        """

    def began(self, id: str, video: Mapping[str, Any]) -> None:
        """Note that the video of a job is being generated."""

    def ended(self, id: str, error: JobError | None, stopped_at: int | None = None) -> None:
        """Note how a job ended. stopped_at: the frames of a video that was stopped before its end."""

    def interrupted(self, id: str) -> None:
        """Note that a job waits again at its place, since its worker was asked to end."""

    def notify(self, id: str, event: dict[str, Any]) -> None:
        """Pass on an event of a video."""


class Supervisor(threading.Thread):
    """Runs a worker for a queue. device: of the worker. command: what starts it. log: file of its standard error.

    restarts: how often a worker ended that should not have, by the reason.
    """

    def __init__(self, jobs: Jobs, device: str, log: Path, command: Sequence[str] = COMMAND):
        super().__init__(name=f"worker {device}", daemon=True)
        self.jobs, self.log, self.command = jobs, log, [*command, "--device", device]
        self.restarts: Counter[str] = Counter()
        self._mutex = threading.Lock()  # over the next four
        self._worker: WorkerProcess | None = None
        self._job = ""
        self._cancelled = False
        self._terminated = ""  # the last job whose worker was asked to end; asked twice, the job fails
        self._left = threading.Event()  # the worker has left the job
        self._closing = threading.Event()

    def run(self) -> None:
        """Generate jobs until the supervisor is closed. The worker starts at once, so that it is ready for the first one."""
        with self._mutex, suppress(OSError):  # one that cannot be started yet is tried again for the first job
            self._worker = WorkerProcess(self.command, self.log)
        while not self._closing.is_set():
            try:
                self._next()
            except Exception:  # such as a worker that the system cannot start
                traceback.print_exc()
                self._closing.wait(IDLE_SECONDS)
        if self._worker is not None:
            self._worker.close()

    def _next(self) -> None:
        """Have the next job generated, if there is one."""
        if (order := self.jobs.claim(IDLE_SECONDS, self._take)) is None:
            return
        try:
            self._generate(order)
        except OSError as error:
            self.jobs.ended(order.id, JobError("worker_not_started", f"the worker cannot be started: {error}"))
        finally:
            with self._mutex:
                self._job = ""
            self._left.set()

    def _take(self, order: Order) -> None:
        with self._mutex:
            self._job, self._cancelled = order.id, False
            self._left.clear()

    @property
    def pid(self) -> int | None:
        """The number of the worker's process; None while there is none."""
        with self._mutex:
            return self._worker.pid if self._worker is not None and self._worker.alive() else None

    def stop(self, id: str) -> None:
        """Let the worker end a job after the current segment."""
        self._send(id, {"stop": id})

    def preview(self, id: str) -> None:
        """Let the worker draw previews of a job for a while."""
        self._send(id, {"preview": id})

    def cancel(self, id: str) -> None:
        """Take a job away from the worker, which has two seconds before it is killed. Returns when it has no hold of it."""
        with self._mutex:
            if self._job != id:
                return
            self._cancelled = True
        self._send(id, {"cancel": id})
        if not self._left.wait(CANCEL_SECONDS):
            with self._mutex:
                if self._job == id and self._worker is not None:
                    self._worker.kill()
            self._left.wait()

    def close(self) -> None:
        """End the worker and the thread. The job that it has is resumed by the next server."""
        self._closing.set()
        with self._mutex:
            if self._worker is not None:
                self._worker.close()
        if self.is_alive():
            self.join()

    # ------------------------------------------------------------ a job
    def _generate(self, order: Order) -> None:
        with self._mutex:
            if self._cancelled or self._closing.is_set():
                return
            if self._worker is not None and not self._worker.alive():
                self._worker.close()  # it died while it had no job
                self._worker = None
            if self._worker is None:
                self._worker = WorkerProcess(self.command, self.log)
            worker = self._worker
        worker.send({"run": str(order.folder), "id": order.id, "stop": order.stop})
        for event in worker.events():
            if event.get("id") != order.id:
                continue
            if event["event"] == "job_began":
                self.jobs.began(order.id, event["video"])
            elif event["event"] == "job_ended":
                self._ended(order.id, event)
                return
            else:
                self.jobs.notify(order.id, event)
        self._died(order.id, worker.close())

    def _ended(self, id: str, event: Mapping[str, Any]) -> None:
        error = None if event["error"] is None else JobError(**event["error"])
        if not event["cancelled"]:
            self.jobs.ended(id, error, event["frames"] if event["stopped"] else None)

    def _died(self, id: str, code: int) -> None:
        with self._mutex:
            self._worker, cancelled = None, self._cancelled
        if cancelled or self._closing.is_set():
            return
        if code == TERMINATED and id != self._terminated:
            self._terminated = id
            self.jobs.interrupted(id)
            return
        error = death(code)
        self.restarts[error.code] += 1
        self.jobs.ended(id, error)

    def _send(self, id: str, order: dict[str, Any]) -> None:
        with self._mutex:
            if self._job == id and self._worker is not None:
                self._worker.send(order)


def death(code: int) -> JobError:
    """Return why a worker died that had a job. code: its exit code, negative if a signal ended it."""
    if code in (KILLED, TERMINATED):
        return JobError(
            "worker_killed",
            "the worker process was killed, most likely because the machine ran out of memory: every segment so far is "
            "safe, and the job can be resumed",
        )
    return JobError(
        "worker_crashed",
        f"the worker process ended ({end_of(code)}): every segment so far is safe, and the job can be resumed",
    )
