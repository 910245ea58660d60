"""Pictures of a video: its first frame as thumbnail, and the contact sheet, also of what is there so far."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field

from PIL import Image
from starlette.responses import Response

from longtake.media.video_reader import timed_frames
from longtake.runs.publish import drawn_sheet
from longtake.server.delivery.feeds import Feeds
from longtake.server.delivery.run_media import RunMedia, read_place

WIDEST = 640  # pixels of a thumbnail


@dataclass
class Pictures:
    """Draws pictures of videos, at most two at a time: each decodes segments."""

    feeds: Feeds
    drawing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    async def thumbnail(self, video: str) -> Response:
        """Answer with the first frame as JPEG, at most 640 pixels wide."""
        feed = await self.feeds.started(video)
        async with self.drawing:
            data = await asyncio.to_thread(_first_frame, feed.media)
        return Response(data, 200, {"cache-control": "private, max-age=3600"}, "image/jpeg")

    async def spritesheet(self, video: str) -> Response:
        """Answer with the contact sheet as PNG: sheet.png of a finished video, else one of the frames so far."""
        feed = await self.feeds.started(video)
        async with self.drawing:
            data = await asyncio.to_thread(_sheet, feed.media)
        return Response(data, 200, {"cache-control": "no-store"}, "image/png")


def _first_frame(media: RunMedia) -> bytes:
    data = b"".join(read_place(place, place.left) for place in (media.init, media.segment(0)))
    _, frame = next(iter(timed_frames(data)))
    picture = Image.fromarray(frame.numpy())
    picture.thumbnail((WIDEST, WIDEST * 4))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def _sheet(media: RunMedia) -> bytes:
    sheet = media.layout.sheet
    if media.published is not None and sheet.is_file() and not sheet.is_symlink():
        return sheet.read_bytes()
    return drawn_sheet(media.layout, media.manifest, media.frames)
