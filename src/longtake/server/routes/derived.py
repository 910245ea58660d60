"""Videos that are made from other videos: remixes and extensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.runs.jobs.derived import Derived, extended, remixed
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Sender
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.body import Bodies, Body
from longtake.server.requests.calls import Senders, called
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.coercion import coerced
from longtake.server.requests.job_requests import checked, keywords, new_request, variations
from longtake.server.video_object import video_object

Maker = Callable[[Mapping[str, Any], Body], Derived]


class DerivedVideos:
    """The handlers of `/v1/videos/extensions` and `/v1/videos/{id}/remix`."""

    def __init__(self, queue: JobQueue, catalogue: Catalogue, senders: Senders, bodies: Bodies):
        self.queue, self.catalogue, self.senders, self.bodies = queue, catalogue, senders, bodies

    def routes(self) -> list[Route]:
        """Return the routes; they come before those of a single video, since "extensions" stands where an id does."""
        return [
            Route("/v1/videos/extensions", self.extend, methods=["POST"]),
            Route("/v1/videos/{id}/remix", self.remix, methods=["POST"]),
        ]

    async def remix(self, request: Request) -> Response:
        """Queue the same video with another prompt, or with other options."""
        id = request.path_params["id"]
        return await self._submitted(request, lambda values, body: remixed(self.queue.get(id), values))

    async def extend(self, request: Request) -> Response:
        """Queue a video that continues another one; `seconds` is the length of the new part."""
        return await self._submitted(request, self._extension)

    def _extension(self, values: Mapping[str, Any], body: Body) -> Derived:
        given = dict(values)
        source = given.pop("video", None)
        if "video" in body.files:
            return Derived(new_request(given, self.catalogue), body.files, {})
        id = source.get("id") if isinstance(source, Mapping) else source
        if not isinstance(id, str):
            raise ApiError(400, "missing_field", 'video must be {"id": ...}, or a video file in a form', "video")
        return extended(self.queue.get(id), given)

    async def _submitted(self, request: Request, make: Maker) -> Response:
        with self.senders.handling(request) as sender_of:
            async with self.bodies.of(request) as body:
                return JsonAnswer(await called(lambda: self._made(body, *sender_of(body), make)))

    def _made(self, body: Body, sender: Sender, resent: bool, make: Maker) -> dict[str, Any]:
        values = coerced(body.values)
        count, source = variations(values), values.pop("video", None)
        given = keywords(values, self.catalogue) | ({} if source is None else {"video": source})
        made = make(given, body)
        wanted = [checked(made.request.with_inputs(made.inputs)).varied(number) for number in range(count)]
        jobs = self.queue.submit(wanted, inputs=made.inputs, sender=sender, resent=resent, origin=made.origin or None)
        return video_object(jobs[0])
