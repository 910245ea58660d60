"""The last events of the server, numbered without gaps, from which every subscriber reads on at its own place."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

KEPT = 20_000  # events; about 5 MB
BATCH = 200  # events that a subscriber reads at once


@dataclass(frozen=True)
class Event:
    """An event. number: from 1 on. subject: the id of a video, or of a download. name, data: as clients see them."""

    number: int
    subject: str
    name: str
    data: str


@dataclass(frozen=True)
class Batch:
    """Events that follow a number, up to number `last`, which a subscriber continues after."""

    events: list[Event]
    last: int


class LostEventsError(LookupError):
    """The events after a number are not kept any more, or never were."""


class History:
    """The last events of this server. `publish` may be called from any thread.

    Nothing is kept for a subscriber but its place: one that reads too slowly finds its events gone, and starts again from
    the state of now. kept: number of events.
    """

    def __init__(self, kept: int = KEPT):
        self._events: deque[Event] = deque(maxlen=kept)
        self._start = secrets.token_hex(4)  # so that ids of an earlier start of the server are recognised
        self._last = 0
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    def publish(self, subject: str, name: str, data: Mapping[str, Any]) -> None:
        """Add an event. data: JSON values."""
        text = json.dumps({"id": subject, **data}, ensure_ascii=False, separators=(",", ":"))
        with self._lock:
            self._last += 1
            self._events.append(Event(self._last, subject, name, text))
            waiting, self._waiting = self._waiting, {}
        for future, loop in waiting.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first one."""
        return self._last

    def id_of(self, number: int) -> str:
        """Return the id of an event for clients, which holds its number and the start of the server."""
        return f"{self._start}-{number}"

    def number_of(self, id: str) -> int | None:
        """Return the number of an event id; None if it is of another start of the server, or of no event."""
        found = re.fullmatch(r"([0-9a-f]{8})-([0-9]{1,15})", id)
        if found is None or found[1] != self._start or int(found[2]) > self._last:
            return None
        return int(found[2])

    def after(self, number: int, subjects: Iterable[str] | None = None) -> Batch:
        """Return the next events behind a number, of some subjects only (None: of all). LostEventsError if some are gone."""
        wanted = None if subjects is None else frozenset(subjects)
        with self._lock:
            first = self._events[0].number if self._events else self._last + 1
            if number + 1 < first:
                raise LostEventsError(f"event {number + 1} is not kept any more")
            part = list(islice(self._events, number + 1 - first, number + 1 - first + BATCH))
        last = part[-1].number if part else number
        return Batch([event for event in part if wanted is None or event.subject in wanted], last)

    async def wait(self, number: int, seconds: float) -> bool:
        """Wait until there is an event behind a number; return False if there is none within so many seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._last > number:
                return True
            self._waiting[future] = loop
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiting.pop(future, None)
        return True


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
