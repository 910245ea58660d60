"""Runs that viewers follow: one reader for each run, shared by all of its viewers, and their number."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.runs.files.errors import RunError
from longtake.server.delivery.run_media import Place, RunMedia, media_type, read_place
from longtake.server.errors import ApiError

POLL = 0.1  # seconds between two reads of a journal for which a viewer waits
LIVE_POLLS = 5  # of these until a feed asks again whether its run is live
BLOCK = 1 << 18  # bytes read at a time
OPEN_RUNS = 256  # readers that are kept


@dataclass(frozen=True)
class Source:
    """The run directory of a video. live: a job generates it, or waits to: there will be more."""

    folder: Path
    live: bool


Find = Callable[[str], Source]  # id -> source; raises ApiError 404


class Feed:
    """One run that viewers follow. Reading is shared: however many wait, its journal is read once."""

    def __init__(self, media: RunMedia, is_live: Callable[[], Awaitable[bool]], poll: float = POLL):
        self.media, self._is_live, self._poll = media, is_live, poll
        self._reading = asyncio.Lock()
        self._live, self._asked = True, -1.0
        self._content_type = ""

    async def refresh(self) -> None:
        """Read what was appended to the journal."""
        async with self._reading:
            if self.media.changed():
                await asyncio.to_thread(self.media.refresh)

    async def grown(self, segments: int) -> bool:
        """Wait until the run has more than this number of segments. Return False if it ends before."""
        while True:
            live = await self._still_live()  # asked first: what a run writes last is there when it is not live any more
            await self.refresh()
            if self.media.segments > segments:
                return True
            if self.media.complete or not live:
                return False
            await asyncio.sleep(self._poll)

    async def _still_live(self) -> bool:
        now = time.monotonic()
        if now - self._asked >= LIVE_POLLS * self._poll:
            self._asked = now
            self._live = await self._is_live()
        return self._live

    async def content_type(self) -> str:
        """Return the Content-Type of the video with its codec. There must be a segment."""
        if not self._content_type:
            init = self.media.init
            self._content_type = media_type(await asyncio.to_thread(read_place, init, init.left))
        return self._content_type


class Feeds:
    """The feeds of the videos that were asked for last, and the viewers of all, by kind."""

    def __init__(self, find: Find, poll: float = POLL):
        self._find, self._poll = find, poll
        self._open: OrderedDict[Path, Feed] = OrderedDict()
        self.viewers: Counter[str] = Counter()

    async def source(self, video: str) -> Source:
        """Return the run directory of a video. Raises ApiError 404 if there is no such video."""
        return await asyncio.to_thread(self._find, video)

    async def feed(self, video: str) -> Feed:
        """Return the feed of a video, with its journal read. Raises ApiError 404 if there is no such video.

        409 if its run directory was not written yet, or cannot be read.
        """
        folder = (await self.source(video)).folder
        try:
            if folder not in self._open:
                media = await asyncio.to_thread(RunMedia, folder)
                self._open[folder] = Feed(media, lambda: self._live(video), self._poll)
            self._open.move_to_end(folder)
            while len(self._open) > OPEN_RUNS:
                self._open.popitem(last=False)
            feed = self._open[folder]
            await feed.refresh()
        except RunError as error:
            if not (folder / "run.json").exists():
                raise no_frames() from error
            raise ApiError(409, "run_not_readable", "The run directory of this video cannot be read.") from error
        return feed

    async def started(self, video: str, wait: float = 0) -> Feed:
        """Return the feed of a video with a segment; ApiError 409 if there is none within `wait` seconds."""
        left = wait
        while True:
            live = await self._live(video)  # asked first, see `Feed.grown`
            try:
                feed = await self.feed(video)
                if feed.media.segments:
                    return feed
            except ApiError as error:
                if error.code != "no_frames_yet":
                    raise
            if left <= 0 or not live:
                raise no_frames()
            left -= self._poll
            await asyncio.sleep(self._poll)

    async def _live(self, video: str) -> bool:
        try:
            return (await self.source(video)).live
        except ApiError:
            return False  # deleted

    @contextmanager
    def watching(self, kind: str) -> Iterator[None]:
        """Count a viewer inside the block. kind: content, stream, ..."""
        self.viewers[kind] += 1
        try:
            yield
        finally:
            self.viewers[kind] -= 1


def no_frames() -> ApiError:
    """Return the error for a video without a durable segment."""
    return ApiError(409, "no_frames_yet", "This video has no frames yet: ask again when its status is in_progress.")


async def followed(feeds: Feeds, feed: Feed, segment: int, kind: str) -> AsyncGenerator[bytes]:
    """Yield init.mp4, then whole segments from number `segment` on as they become durable, until the run ends."""
    with feeds.watching(kind):
        async for block in _blocks(feed.media.init):
            yield block
        while await feed.grown(segment):
            while segment < feed.media.segments:
                async for block in _blocks(feed.media.segment(segment)):
                    yield block
                segment += 1


async def _blocks(place: Place) -> AsyncGenerator[bytes]:
    while place.left:
        data = await asyncio.to_thread(read_place, place, BLOCK)
        place = Place(place.path, place.offset + len(data), place.left - len(data))
        yield data
