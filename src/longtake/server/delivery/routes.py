"""The routes that deliver videos. The server gives them a function that finds the run directory of an id."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.server.delivery.content import video_content
from longtake.server.delivery.feeds import POLL, Feeds, Find
from longtake.server.delivery.hls import hls_file
from longtake.server.delivery.pictures import Pictures
from longtake.server.delivery.stream import video_stream
from longtake.server.errors import ApiError

VARIANTS = ("video", "thumbnail", "spritesheet")


class Delivery:
    """The handlers of the delivery routes. find: returns the run directory of an id, or raises ApiError 404."""

    def __init__(self, find: Find, poll: float = POLL):
        self.feeds = Feeds(find, poll)
        self._pictures = Pictures(self.feeds)

    def routes(self) -> list[Route]:
        """Return the routes; each path holds the id of a video."""
        return [
            Route("/v1/videos/{id}/content", self.content),
            Route("/v1/videos/{id}/stream", self.stream),
            Route("/v1/videos/{id}/hls/{name}", self.hls),
        ]

    async def content(self, request: Request) -> Response:
        """Answer with the video, its thumbnail or its spritesheet."""
        video, variant = request.path_params["id"], request.query_params.get("variant", "video")
        if variant not in VARIANTS:
            raise ApiError(400, "invalid_value", f"variant is one of {', '.join(VARIANTS)}.", "variant")
        if variant == "thumbnail":
            return await self._pictures.thumbnail(video)
        if variant == "spritesheet":
            return await self._pictures.spritesheet(video)
        return await video_content(request, self.feeds, video)

    async def stream(self, request: Request) -> Response:
        """Answer with fragmented MP4 that follows the run."""
        return await video_stream(request, self.feeds, request.path_params["id"])

    async def hls(self, request: Request) -> Response:
        """Answer with the playlist, or with a file that it names."""
        video = request.path_params["id"]
        return await hls_file(self.feeds, video, request.path_params["name"])
