"""The events of jobs: how far those are that workers have, and who listens."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from longtake.runs.jobs.states import ACTIVE

Listener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Progress:
    """How far a video is. frames, segments: that are durable. window: from 0; step, steps: model calls of the window."""

    frames: int = 0
    segments: int = 0
    window: int = 0
    step: int = 0
    steps: int = 0

    def after(self, event: Mapping[str, Any]) -> Progress:
        """Return the progress after an event of `longtake.runs.event_schema`."""
        kind = event["event"]
        if kind == "run_opened":
            return replace(self, segments=event["segments"], frames=event["frames"])
        if kind == "segment_written":
            segments = max(self.segments, event["segment"] + 1)
            return replace(self, segments=segments, frames=max(self.frames, event["first"] + event["frames"]))
        if kind == "window_started":
            return replace(self, window=event["window"], step=0, steps=event["steps"])
        return replace(self, step=event["step"], steps=event["steps"]) if kind == "step_done" else self


class JobEvents:
    """Passes the events of jobs on to listeners, and keeps the progress of the jobs that workers have."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._progress: dict[str, Progress] = {}

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call a function with the id of a job and each of its events, from any thread; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def progress(self, id: str) -> Progress | None:
        """Return the progress of a job; None if no worker has it."""
        return self._progress.get(id)

    def notify(self, id: str, event: dict[str, Any]) -> None:
        """Note the progress, and call all listeners."""
        if event["event"] == "state":
            if event["state"] in ACTIVE:
                self._progress.setdefault(id, Progress())
            else:
                self._progress.pop(id, None)
        elif id in self._progress:
            self._progress[id] = self._progress[id].after(event)
        for listener in tuple(self._listeners):
            try:
                listener(id, event)
            except Exception:  # a listener that fails must not end a job
                traceback.print_exc()
