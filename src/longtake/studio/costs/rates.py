"""How fast this machine generates, measured by every job and kept, so that the next one's time is known before it runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from longtake.core.files import json_object
from longtake.runs.files.durable import write_file

MOST_BYTES = 1 << 20
WEIGHT = 0.5  # of the newest measurement


class Rates:
    """Seconds per latent frame and step, by model, size and whether guidance doubles the calls. path: the file that keeps them.

    describe: what the key of a job is; None if that is not known. Events may come from any thread.
    """

    def __init__(self, path: Path, describe: Callable[[str], str | None], now: Callable[[], float] = time.monotonic):
        self.path, self._describe, self._now = path, describe, now
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, int]] = {}  # id -> since when, and the latent frames times steps so far
        self._known = self._read()

    def get(self, key: str) -> float | None:
        """Return what was measured; None for a model that never ran here at this size."""
        return self._known.get(key)

    def on_event(self, id: str, event: Mapping[str, Any]) -> None:
        """Take in an event of a job."""
        kind = event["event"]
        if kind == "window_started":
            with self._lock:
                since, columns = self._running.get(id, (self._now(), 0))
                self._running[id] = since, columns + event["steps"] * event["latents"]
        elif kind == "state" and event["state"] in ("completed", "failed", "deleted"):
            with self._lock:
                found = self._running.pop(id, None)
            if found is not None and event["state"] == "completed":
                self._measured(id, *found)

    def _measured(self, id: str, since: float, columns: int) -> None:
        key = self._describe(id)
        if key is None or not columns:
            return
        rate = (self._now() - since) / columns
        before = self._known.get(key)
        self._known[key] = rate if before is None else WEIGHT * rate + (1 - WEIGHT) * before
        with suppress(OSError):  # it is measured again by the next job
            write_file(self.path, [json.dumps(self._known).encode()])

    def _read(self) -> dict[str, float]:
        try:
            if self.path.stat().st_size > MOST_BYTES:
                return {}
            found = json_object(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return {key: float(rate) for key, rate in found.items() if isinstance(rate, int | float) and rate > 0}
