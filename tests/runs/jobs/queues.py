"""Queues to test: with the fake worker, and helpers that wait for their jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Job
from longtake.runs.jobs.request import JobRequest

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def asked(prompt: str = "a red ball", **options) -> JobRequest:
    """Return the request of a job."""
    return JobRequest.of(prompt=prompt, **options)


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def ended(queue: JobQueue, id: str) -> Job:
    """Wait until a job has ended, and return it."""
    until(lambda: queue.get(id).status.state in ("completed", "failed"))
    return queue.get(id)


def states(queue: JobQueue) -> dict[str, str]:
    """Return the states of all jobs, in the order in which they were asked for."""
    return {job.id: job.status.state for job in queue.page(limit=1000, order="asc").jobs}
