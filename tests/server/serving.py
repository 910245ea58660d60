"""A server on a real socket, and a recorded run that grows when a test says so."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from longtake.runs import SegmentWritten, record
from longtake.server.delivery.feeds import Source
from longtake.server.delivery.routes import Delivery
from longtake.server.errors import ApiError, on_api_error
from tests.runs.toy_runs import Video, clock


@contextmanager
def served(app) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1 in a thread; yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", http="h11", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        listener.close()


class GrowingRun:
    """A run of the toy clock (127 frames, 6 segments) that is recorded segment by segment."""

    def __init__(self, folder: Path, video: Video | None = None):
        video = video or clock()
        self.folder, self.live = folder, True
        self._events = record(video.rollout(), video.manifest(), folder)

    def grow(self, segments: int = 1) -> None:
        """Record this number of further segments."""
        for event in self._events:
            segments -= isinstance(event, SegmentWritten)
            if not segments:
                return

    def finish(self) -> None:
        """Record the rest."""
        for _ in self._events:
            pass
        self.live = False

    def stop(self) -> None:
        """Stop recording, as a stopped or failed job does."""
        self._events.close()
        self.live = False

    @property
    def content(self) -> bytes:
        """init.mp4 and all segments that are there."""
        media = self.folder / "media"
        return b"".join(path.read_bytes() for path in [media / "init.mp4", *sorted(media.glob("s*.m4s"))])

    def find(self, video: str) -> Source:
        """Find the run under the id `video_1`."""
        if video != "video_1":
            raise ApiError(404, "not_found", f"There is no video {video}.")
        return Source(self.folder, self.live)

    def app(self) -> Starlette:
        """Return an application with the delivery routes alone."""
        self.delivery = Delivery(self.find, poll=0.01)
        return Starlette(routes=self.delivery.routes(), exception_handlers={ApiError: on_api_error})
