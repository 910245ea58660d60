"""GET /v1/events: the events of all videos as one server-sent stream, which continues without a gap after a break.

One stream for all, since a browser opens at most six connections to a host over all of its tabs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.server.delivery.feeds import Feeds
from longtake.server.delivery.media_response import MediaResponse
from longtake.server.errors import ApiError
from longtake.server.events.history import History, LostEventsError

HEARTBEAT = 12.0  # seconds without an event
RETRY = 1000  # milliseconds until a browser connects again
MOST_IDS = 256
HEADERS = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}

Snapshot = Callable[[Sequence[str] | None], dict[str, Any]]  # ids (None: all) -> the state of now, as JSON values
HasEnded = Callable[[Sequence[str]], bool]  # ids -> whether nothing will happen to any of them


class EventStream:
    """The handler of `/v1/events`.

    snapshot: what a new subscriber is sent first. has_ended: whether a subscriber of these ids may leave for good.
    """

    def __init__(
        self, history: History, feeds: Feeds, snapshot: Snapshot, has_ended: HasEnded, heartbeat: float = HEARTBEAT
    ):
        self.history, self._feeds, self._snapshot, self._has_ended = history, feeds, snapshot, has_ended
        self._heartbeat = heartbeat

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/events", self.events)]

    async def events(self, request: Request) -> Response:
        """Answer with a snapshot, then with events; with what was missed instead of the snapshot after a break.

        The header Last-Event-ID, or ?last_event_id=, names the last event that was seen. An id that is unknown or too old
        gives the event `reset` and a snapshot. ?ids= selects videos; 204 says that nothing will happen to them any more.
        """
        last = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        ids = _ids(request)
        number = None if last is None else self.history.number_of(last)
        if number is not None and ids is not None and await self._is_over(number, ids):
            return Response(None, 204, {"cache-control": "no-store"})
        return MediaResponse(self._stream(number, last is not None, ids), 200, HEADERS)

    async def _is_over(self, number: int, ids: Sequence[str]) -> bool:
        try:
            missed = self.history.after(number, ids)
        except LostEventsError:
            return False
        rest = self.history.last > missed.last
        return not missed.events and not rest and await asyncio.to_thread(self._has_ended, ids)

    async def _stream(self, number: int | None, known: bool, ids: Sequence[str] | None) -> AsyncGenerator[bytes]:
        with self._feeds.watching("events"):
            yield f"retry: {RETRY}\n\n".encode()
            if number is not None:
                try:
                    self.history.after(number)
                except LostEventsError:
                    number = None
            if number is None:
                if known:
                    yield _block("reset", "{}")
                number = self.history.last  # before the state is read, which may hold more: events say it again
                state = await asyncio.to_thread(self._snapshot, ids)
                yield _block("snapshot", json.dumps(state, ensure_ascii=False), self.history.id_of(number))
            async for block in self._following(number, ids):
                yield block

    async def _following(self, number: int, ids: Sequence[str] | None) -> AsyncGenerator[bytes]:
        """Yield the events behind a number, until nothing will happen any more, or until the subscriber is too slow."""
        while True:
            try:
                batch = self.history.after(number, ids)
            except LostEventsError:
                return  # it connects again, and is sent a reset
            number = batch.last
            if batch.events:
                yield b"".join(_block(one.name, one.data, self.history.id_of(one.number)) for one in batch.events)
            if self.history.last > number:
                continue
            if ids is not None and await asyncio.to_thread(self._has_ended, ids) and self.history.last == number:
                yield self._place(number)
                return
            if not await self.history.wait(number, self._heartbeat):
                yield b": still here\n" + self._place(number)

    def _place(self, number: int) -> bytes:
        """Return a block without data: no event for the client, but it continues after this number."""
        return f"id: {self.history.id_of(number)}\n\n".encode()


def _block(name: str, data: str, id: str | None = None) -> bytes:
    line = "" if id is None else f"id: {id}\n"
    return f"{line}event: {name}\ndata: {data}\n\n".encode("utf-8", "replace")


def _ids(request: Request) -> list[str] | None:
    text = request.query_params.get("ids")
    ids = None if text is None else [id for id in text.split(",") if id]
    if ids is not None and not 1 <= len(ids) <= MOST_IDS:
        raise ApiError(400, "invalid_value", f"ids names 1 to {MOST_IDS} videos, separated by commas.", "ids")
    return ids
