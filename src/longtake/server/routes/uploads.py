"""Files that clients send before the requests that use them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.body import Bodies

FIELDS = ("file", "image", "video", "control")


class Uploads:
    """The handler of `/v1/uploads`."""

    def __init__(self, bodies: Bodies):
        self.bodies = bodies

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/uploads", self.upload, methods=["POST"])]

    async def upload(self, request: Request) -> Response:
        """Keep a file for a day; its id stands for it in the fields `image`, `video` and so on of later requests."""
        async with self.bodies.of(request) as body:
            if len(body.files) != 1:
                raise ApiError(400, "missing_field", "An upload is one file, in the field file of a form.", "file")
            path = next(iter(body.files.values()))
            id = await asyncio.to_thread(self.bodies.uploads.add, path, path.suffix)
            return JsonAnswer(_facts(id, path.stat().st_size, body.facts))


def _facts(id: str, size: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": id, "object": "upload", "bytes": size, **facts}
