"""The numbers of a server, from the events of its queue. No label holds an id or a prompt."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.states import ACTIVE, COMPLETED, DELETED, ENDED, FAILED, QUEUED, RUNNING, NoSuchJob
from longtake.server.delivery.feeds import Feeds
from longtake.server.monitoring.series import Histogram, Series, text_of
from longtake.server.video_object import shown_model

LONG = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)  # seconds
SHORT = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


@dataclass
class _Running:
    """A job that a worker has. Times are monotonic seconds: of its start, its last window, step and segment."""

    model: str
    fps: float
    start: float
    window: float
    step: float
    segment: float


class Metrics:
    """Counts what happens in a queue; `text` is the page for Prometheus."""

    def __init__(self, queue: JobQueue, feeds: Feeds):
        self.queue, self._feeds = queue, feeds
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, float] = {}  # monotonic seconds at which jobs were queued
        self._jobs = Series("longtake_jobs", "Jobs by state.", "gauge")
        self._ended = Series("longtake_jobs_total", "Jobs that ended, by model and outcome.", "counter")
        self._wait = Histogram("longtake_queue_wait_seconds", "Time that jobs waited in the queue.", LONG)
        self._duration = Histogram("longtake_job_duration_seconds", "Time that workers had jobs.", LONG)
        self._written = {
            name: Series(f"longtake_{name}_total", text, "counter", {(): 0})
            for name, text in (
                ("segments", "Segments that became durable."),
                ("frames", "Output frames that became durable."),
                ("video_seconds", "Seconds of video that became durable."),
                ("bytes_written", "Bytes of segments that became durable."),
            )
        }
        self._step = Histogram("longtake_step_seconds", "Time of a model call.", SHORT)
        self._phase = Histogram("longtake_phase_seconds", "Time of sampling and decoding in a window.", SHORT)
        self._factor = Series(
            "longtake_realtime_factor", "Video seconds made in a second, in the last segment.", "gauge"
        )
        queue.listen(self._on_event)

    def _on_event(self, id: str, event: Mapping[str, Any]) -> None:
        now, name = time.monotonic(), event["event"]
        with self._lock:
            if name == "state":
                self._on_state(id, event["state"], now)
                return
            job = self._running.get(id)
            if job is None:
                return
            if name == "window_started":
                job.window = job.step = now
            elif name == "step_done":
                self._step.observe(now - job.step)
                job.step = now
                if event["step"] == event["steps"]:
                    self._phase.observe(now - job.window, phase="sampling")
            elif name == "window_done":
                self._phase.observe(now - job.step, phase="decoding")
            elif name == "segment_written" and not event.get("repeated"):
                self._on_segment(job, event, now)

    def _on_state(self, id: str, state: str, now: float) -> None:
        if state == QUEUED:
            self._waiting[id] = now
        elif (queued := self._waiting.pop(id, None)) is not None and state in ACTIVE:
            self._wait.observe(now - queued)
        if state == RUNNING and id not in self._running:
            self._running[id] = self._begun(id, now)
        elif state in (*ENDED, DELETED) and (job := self._running.pop(id, None)) is not None:
            outcome = {COMPLETED: "completed", FAILED: "failed"}.get(state, "deleted")
            self._ended.add(model=job.model, outcome=outcome)
            self._duration.observe(now - job.start)

    def _begun(self, id: str, now: float) -> _Running:
        try:
            job = self.queue.get(id)
        except NoSuchJob:
            return _Running("unknown", 0, now, now, now, now)
        return _Running(shown_model(job.request.model), float(job.status.video.get("fps", 0)), now, now, now, now)

    def _on_segment(self, job: _Running, event: Mapping[str, Any], now: float) -> None:
        seconds = event["frames"] / job.fps if job.fps else 0
        amounts = {
            "segments": 1,
            "frames": event["frames"],
            "video_seconds": seconds,
            "bytes_written": event.get("bytes", 0),
        }
        for name, amount in amounts.items():
            self._written[name].add(amount)
        if now > job.segment:
            self._factor.set(seconds / (now - job.segment))
        job.segment = now

    def text(self) -> str:
        """Return all numbers in the text format of Prometheus."""
        viewers = Series("longtake_viewers", "Open connections by kind.", "gauge")
        for kind, count in self._feeds.viewers.items():
            viewers.set(count, kind=kind)
        restarts = Series("longtake_worker_restarts_total", "Workers that died with a job, by reason.", "counter")
        for reason, count in self.queue.restarts.items():
            restarts.set(count, reason=reason)
        free = Series("longtake_disk_free_bytes", "Free bytes where the videos are.", "gauge")
        free.set(shutil.disk_usage(self.queue.root).free)
        counts = self.queue.counts()
        with self._lock:
            self._jobs.values = {(("state", state),): count for state, count in counts.items()}
            counted: list[Series | Histogram] = [
                self._jobs,
                self._ended,
                self._wait,
                self._duration,
                *self._written.values(),
                self._step,
                self._phase,
            ]
            return text_of([*counted, self._factor, viewers, restarts, free])
