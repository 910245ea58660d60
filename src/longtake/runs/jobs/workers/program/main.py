"""The program of a worker: it reads orders from standard input and writes events to standard output, as JSON lines.

    {"run": "/videos/video_...", "id": "video_...", "stop": false}     generate the job of a folder
    {"stop": "video_..."}       end it after the current segment       {"cancel": "video_..."}     leave it at once
    {"preview": "video_..."}    draw previews of it for a while

It ends when its standard input does, so it never outlives its server.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, NoReturn, TextIO

from longtake.core.platform import stop_signals

WATCHED_SECONDS = 30.0  # for which previews are drawn after somebody asked for one


class Orders:
    """The orders of the supervisor, read by a thread of their own. stopped, cancelled: ids of jobs to end.

    previewed: until when somebody watches the previews of a job, by `time.monotonic`.
    """

    def __init__(self, source: TextIO):
        self._source, self._jobs = source, queue.SimpleQueue[dict[str, Any]]()
        self.stopped: set[str] = set()
        self.cancelled: set[str] = set()
        self.previewed: dict[str, float] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Wait for the next job."""
        return self._jobs.get()

    def _read(self) -> None:
        for line in self._source:
            order = json.loads(line)
            if "run" in order:  # what was ordered of the same job before is done
                self.stopped.discard(order["id"])
                self.cancelled.discard(order["id"])
                self._jobs.put(order)
            elif "stop" in order:
                self.stopped.add(order["stop"])
            elif "cancel" in order:
                self.cancelled.add(order["cancel"])
            elif "preview" in order:
                self.previewed = {order["preview"]: time.monotonic() + WATCHED_SECONDS}
        os._exit(0)  # the server is gone: all that was written is durable, and its next start resumes the job


class Events:
    """Writes events, each with the id of the job."""

    def __init__(self, out: TextIO):
        self._out, self.id = out, ""

    def write(self, event: dict[str, Any]) -> None:
        """Write an event of the current job."""
        self._out.write(json.dumps({**event, "id": self.id}) + "\n")
        self._out.flush()


def main(arguments: list[str]) -> NoReturn:
    """Generate jobs until standard input ends."""
    for number in stop_signals():  # those of a terminal are meant for the server, which ends this
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    events = Events(os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not mix with the events
    orders = Orders(sys.stdin)
    from longtake.runs.jobs.workers.program.generation import Generator

    generator = Generator(arguments[arguments.index("--device") + 1], orders, events)
    while True:
        order = orders.next()
        events.id = order["id"]
        if not generator.run(order):
            sys.exit(0)  # its memory cannot be trusted any more: the supervisor starts another worker


if __name__ == "__main__":
    main(sys.argv[1:])
