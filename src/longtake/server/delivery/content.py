"""GET /v1/videos/{id}/content: the video as one file, with ranges, also while it grows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response

from longtake.server.delivery.feeds import BLOCK, Feed, Feeds, followed
from longtake.server.delivery.media_response import MediaResponse
from longtake.server.delivery.ranges import Span, UnsatisfiableRangeError, requested_span
from longtake.server.delivery.run_media import Place, read_place
from longtake.server.errors import ApiError, error_response


async def video_content(request: Request, feeds: Feeds, video: str) -> Response:
    """Answer with video.mp4 of a finished video, or with the segments so far of one that is not finished.

    ?follow=1 sends what there is and goes on until the run ends. Only a finished video has an ETag, and a total size.
    """
    feed = await feeds.started(video)
    if request.query_params.get("follow", "0") not in ("0", "false", ""):
        headers = await _headers(feed, None)
        headers.pop("accept-ranges")
        return MediaResponse(followed(feeds, feed, 0, "follow"), 200, headers)
    published = feed.media.published
    if published is not None and not await asyncio.to_thread(feed.media.layout.video.is_file):
        published = None
    size = published["bytes"] if published else feed.media.bytes
    headers = await _headers(feed, published["sha256"] if published else None)
    if "etag" in headers and headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    try:
        span = None if _mixes(request, feed, bool(published)) else _requested(request, size, headers.get("etag"))
    except UnsatisfiableRangeError:
        message = f"The range begins behind the {size} bytes that there are."
        return error_response(
            ApiError(416, "range_not_satisfiable", message, None, {"content-range": f"bytes */{size}"})
        )
    status = 206 if span else 200
    if span:
        headers["content-range"] = f"bytes {span.first}-{span.last}/{size if published else '*'}"
    sent = span or Span(0, size - 1)
    headers["content-length"] = str(len(sent))
    return MediaResponse(_span(feeds, feed, sent, bool(published)), status, headers)


def _mixes(request: Request, feed: Feed, published: bool) -> bool:
    """Whether a request continues the segments of an unfinished video, which a client saved, with bytes of video.mp4.

    It begins where the segments ended at some time and has no If-Range, by which it would know that the file is another
    one now. The whole video is the answer to it, as HTTP allows for every range.
    """
    found = re.match(r"bytes=([0-9]{1,18})-", request.headers.get("range", ""))
    return published and found is not None and "if-range" not in request.headers and feed.media.ends_at(int(found[1]))


def _requested(request: Request, size: int, etag: str | None) -> Span | None:
    """Return the range to send; None for the whole. A range that names another state of the video in If-Range is ignored."""
    if request.method != "GET":  # HTTP defines ranges for GET only
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != etag:
        return None
    return requested_span(request.headers.get("range"), size)


async def _headers(feed: Feed, sha256: str | None) -> dict[str, str]:
    headers = {"content-type": await feed.content_type(), "accept-ranges": "bytes"}
    if sha256 is None:
        return {**headers, "cache-control": "no-store"}
    return {**headers, "cache-control": "private, no-cache", "etag": f'"{sha256}"'}


async def _span(feeds: Feeds, feed: Feed, span: Span, published: bool) -> AsyncGenerator[bytes]:
    with feeds.watching("content"):
        at = span.first
        while at <= span.last:
            left = span.last + 1 - at
            place = Place(feed.media.layout.video, at, left) if published else feed.media.locate(at)
            data = await asyncio.to_thread(read_place, place, min(left, BLOCK))
            at += len(data)
            yield data
