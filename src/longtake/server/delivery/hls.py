"""GET /v1/videos/{id}/hls/...: an HLS EVENT playlist that only grows, and its media files, which never change."""

from __future__ import annotations

import asyncio
import re
from itertools import chain

from starlette.responses import Response

from longtake.runs.files import playlist
from longtake.runs.files.layout import segment_name
from longtake.server.delivery.feeds import Feed, Feeds
from longtake.server.delivery.run_media import read_place
from longtake.server.errors import ApiError

_NAME = re.compile(r"s([0-9]{6,12})\.m4s")
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


async def hls_file(feeds: Feeds, video: str, name: str) -> Response:
    """Answer with index.m3u8, init.mp4 or a segment. A listed segment is durable; ENDLIST says that the run ended."""
    feed = await feeds.started(video)
    if name == "index.m3u8":
        ended = feed.media.complete or not (await feeds.source(video)).live
        await feed.refresh()
        text = await asyncio.to_thread(_playlist, feed, ended)
        return Response(text, 200, {"cache-control": "no-store"}, "application/vnd.apple.mpegurl")
    found = _NAME.fullmatch(name)
    index = int(found[1]) if found else -1
    if name == "init.mp4":
        place = feed.media.init
    elif 0 <= index < feed.media.segments and name == segment_name(index):
        place = feed.media.segment(index)
    else:
        raise ApiError(404, "not_found", "The playlist of this video names no such file.")
    with feeds.watching("hls"):
        data = await asyncio.to_thread(read_place, place, place.left)
    return Response(data, 200, {**IMMUTABLE, "content-type": await feed.content_type()})


def _playlist(feed: Feed, ended: bool) -> str:
    media = feed.media
    items = (
        playlist.item_lines(segment_name(i), media.frames_in(i), media.fps, media="") for i in range(media.segments)
    )
    return "".join(chain([playlist.head(media.manifest, media="")], items, [playlist.END] if ended else []))
