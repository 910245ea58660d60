"""GET /v1/videos/{id}/stream: fragmented MP4 that follows the run, for Media Source Extensions and players."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from longtake.server.delivery.feeds import Feeds, followed
from longtake.server.delivery.media_response import MediaResponse
from longtake.server.delivery.run_media import RunMedia
from longtake.server.errors import ApiError

FIRST_SEGMENT = 30.0  # seconds that a request waits for the first segment, whose codec the Content-Type names


async def video_stream(request: Request, feeds: Feeds, video: str) -> Response:
    """Answer with init.mp4 and whole segments: from=SECONDS begins with the segment there, from=live with the last one.

    Goes on until the run ends. The player's own reading is the only buffer: a segment is read when it is sent.
    """
    feed = await feeds.started(video, FIRST_SEGMENT)
    start = _first_segment(request.query_params.get("from", "0"), feed.media)
    headers = {
        "content-type": await feed.content_type(),
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-longtake-segment": str(start),
    }
    return MediaResponse(followed(feeds, feed, start, "stream"), 200, headers)


def _first_segment(text: str, media: RunMedia) -> int:
    if text == "live":
        return media.segments - 1
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ApiError(400, "invalid_value", f"from is a time in seconds, or live, not {text[:40]!r}.", "from")
    return media.segment_at(seconds)
