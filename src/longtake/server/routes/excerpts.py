"""Frames of a video as small pictures, and ranges of frames as files to keep."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import get_args

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from longtake.server.delivery.excerpts import MOST_FRAMES, Format, small_picture, write_excerpt
from longtake.server.delivery.feeds import Feeds
from longtake.server.delivery.run_media import RunMedia
from longtake.server.errors import ApiError

KEPT = {"cache-control": "private, max-age=86400, immutable"}  # a durable frame never changes


class Excerpts:
    """The handlers of the routes; at most two of them decode at a time."""

    def __init__(self, feeds: Feeds):
        self._feeds, self._decoding = feeds, asyncio.Semaphore(2)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/videos/{id}/frames/{number:int}", self.frame),
            Route("/v1/videos/{id}/range", self.range),
        ]

    async def frame(self, request: Request) -> Response:
        """Answer with an output frame as JPEG, at most 160 pixels high."""
        feed = await self._feeds.started(request.path_params["id"])
        number = request.path_params["number"]
        if number >= feed.media.frames:
            raise ApiError(404, "no_such_frame", f"This video has {feed.media.frames} frames so far.", "number")
        async with self._decoding:
            data = await asyncio.to_thread(small_picture, feed.media, number)
        return Response(data, 200, KEPT, "image/jpeg")

    async def range(self, request: Request) -> Response:
        """Answer with frames `from`..`to` - 1 as a file: format=mp4, gif, or png for a zip of frames."""
        feed = await self._feeds.started(request.path_params["id"])
        query = request.query_params
        kind = query.get("format", "mp4")
        if kind not in get_args(Format):
            raise ApiError(400, "invalid_value", f"format is one of {', '.join(get_args(Format))}.", "format")
        first, end = _frame(query.get("from", "0"), "from"), _frame(query.get("to", str(feed.media.frames)), "to")
        _check(feed.media, first, end, kind)
        folder = Path(tempfile.mkdtemp(prefix="longtake-"))
        try:
            async with self._decoding:
                path = await asyncio.to_thread(write_excerpt, feed.media, first, end, kind, folder)  # type: ignore[arg-type]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        name = f"{request.path_params['id']}-{first}-{end}{path.suffix}"
        return FileResponse(path, filename=name, background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True))


def _frame(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise ApiError(400, "invalid_value", f"{name} is the number of a frame, not {text[:40]!r}.", name)
    return int(text)


def _check(media: RunMedia, first: int, end: int, kind: str) -> None:
    if not 0 <= first < end <= media.frames:
        raise ApiError(400, "invalid_value", f"from and to must lie in the {media.frames} frames of this video.", "to")
    if end - first > MOST_FRAMES[kind]:
        raise ApiError(400, "too_long", f"An excerpt as {kind} has at most {MOST_FRAMES[kind]} frames.", "to")
