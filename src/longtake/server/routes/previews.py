"""Previews of a video while it is generated: small images of what the steps are heading for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.runs.jobs.queue import JobQueue
from longtake.server.errors import ApiError
from longtake.server.requests.calls import called


class VideoPreviews:
    """The handler of `/v1/videos/{id}/preview`."""

    def __init__(self, queue: JobQueue):
        self.queue = queue

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/videos/{id}/preview", self.preview)]

    async def preview(self, request: Request) -> Response:
        """Answer with the last preview, a PNG; the first request makes the worker draw them, at most two a second.

        With ?if_any=1 the answer is 204 while there is none, else 409.
        """
        id = request.path_params["id"]

        def read() -> bytes | None:
            path = self.queue.preview(id)
            return None if path is None else path.read_bytes()

        image = await called(read)
        if image is None and "if_any" in request.query_params:  # a browser logs every other answer as an error
            return Response(None, 204, {"cache-control": "no-store"})
        if image is None:
            message = "this video has no preview yet: ask again while its status is in_progress"
            raise ApiError(409, "no_preview_yet", message)
        return Response(image, media_type="image/png", headers={"cache-control": "no-store"})
