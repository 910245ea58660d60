"""The states of a job, the changes from one to the next, and the errors of a queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from longtake.core.errors import LongtakeError

QUEUED, STARTING, RUNNING, STOPPING = "queued", "starting", "running", "stopping"
COMPLETED, FAILED, DELETED = "completed", "failed", "deleted"
ACTIVE = (STARTING, RUNNING, STOPPING)  # a worker has the job
ENDED = (COMPLETED, FAILED)
NEXT: Mapping[str, tuple[str, ...]] = {
    "": (QUEUED,),
    QUEUED: (STARTING, COMPLETED, FAILED, DELETED),
    STARTING: (RUNNING, STOPPING, QUEUED, COMPLETED, FAILED, DELETED),
    RUNNING: (STOPPING, QUEUED, COMPLETED, FAILED, DELETED),
    STOPPING: (QUEUED, COMPLETED, FAILED, DELETED),
    COMPLETED: (QUEUED, DELETED),
    FAILED: (QUEUED, DELETED),
    DELETED: (),
}  # from a state to those that may follow; an active job is queued again after its server died


class QueueError(LongtakeError, RuntimeError):
    """A request to a queue that it cannot meet; the message says why and what to do."""


class QueueInUse(QueueError):
    """Another process works on the queue of this folder."""


class QueueFull(QueueError):
    """As many jobs wait as the queue may hold."""


class NoSuchJob(QueueError):
    """There is no job of this id, or it was deleted."""


class WrongState(QueueError):
    """What was requested cannot be done in the state that the job is in. state: of the job."""

    def __init__(self, message: str, state: str):
        super().__init__(message)
        self.state = state


class KeyReused(QueueError):
    """An idempotency key came again with another request."""


@dataclass(frozen=True)
class JobError:
    """Why a job failed. code: for programs, such as "out_of_memory". param: the option that is wrong, if it is one."""

    code: str
    message: str
    param: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return the error as JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Status:
    """The state that a job is in. at: since when, in seconds since 1970. position: in the queue, lower is earlier.

    stopped: the user ended the video, or has asked for that. video: facts of the video once they are known: model, seed,
    fps, size, frames and seconds (both None: endless) of the whole.
    """

    state: str
    at: float
    position: int
    stopped: bool = False
    error: JobError | None = None
    video: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return the status as JSON values; what is at its default is omitted."""
        found: dict[str, Any] = {"state": self.state, "at": self.at, "position": self.position}
        if self.stopped:
            found["stopped"] = True
        if self.error is not None:
            found["error"] = self.error.facts()
        return found | ({"video": dict(self.video)} if self.video else {})

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Status:
        """Read the status of `facts`. ValueError, TypeError or KeyError if it is none."""
        error = facts.get("error")
        if facts["state"] not in NEXT:
            raise ValueError(f"there is no state {facts['state']!r}")
        return Status(**{**facts, "error": None if error is None else JobError(**error)})


def check_next(state: str, following: str, id: str) -> None:
    """Raise WrongState unless a job may go from one state to the other."""
    if following not in NEXT[state]:
        raise WrongState(f"the job {id} is {state}, so it cannot become {following}", state)
