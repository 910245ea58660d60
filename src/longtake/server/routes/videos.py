"""The videos of the server: asking for one, looking at it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Sender
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.body import Bodies, Body
from longtake.server.requests.calls import Senders, called
from longtake.server.requests.catalogue import Catalogue
from longtake.server.requests.coercion import coerced
from longtake.server.requests.job_requests import checked, new_request, variations
from longtake.server.video_object import video_object

MOST_LISTED = 100


class Videos:
    """The handlers of `/v1/videos`."""

    def __init__(self, queue: JobQueue, catalogue: Catalogue, senders: Senders, bodies: Bodies):
        self.queue, self.catalogue, self.senders, self.bodies = queue, catalogue, senders, bodies

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/videos", self.create, methods=["POST"]),
            Route("/v1/videos", self.list),
            Route("/v1/videos/{id}", self.retrieve),
            Route("/v1/videos/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/videos/{id}/stop", self.stop, methods=["POST"]),
            Route("/v1/videos/{id}/resume", self.resume, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Queue a video, or `n` variations of it with seeds that follow each other."""
        with self.senders.handling(request) as sender_of:
            async with self.bodies.of(request) as body:
                return JsonAnswer(await called(lambda: self._created(body, *sender_of(body))))

    def _created(self, body: Body, sender: Sender, resent: bool) -> dict[str, Any]:
        values = coerced(body.values)
        count = variations(values)
        wanted = checked(new_request(values, self.catalogue).with_inputs(body.files))
        jobs = self.queue.submit(
            [wanted.varied(number) for number in range(count)], inputs=body.files, sender=sender, resent=resent
        )
        return self._video(jobs[0].id)

    async def list(self, request: Request) -> Response:
        """List videos, the newest first."""
        query = request.query_params
        order, limit = query.get("order", "desc"), query.get("limit", "20")
        if order not in ("asc", "desc"):
            raise ApiError(400, "invalid_value", "order is asc or desc", "order")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
            raise ApiError(400, "invalid_value", f"limit must be a whole number from 1 to {MOST_LISTED}", "limit")
        page = await called(lambda: self.queue.page(query.get("after"), int(limit), order))
        data = [video_object(job, self.queue.progress(job.id)) for job in page.jobs]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return JsonAnswer({"object": "list", "data": data, "has_more": page.more, "first_id": first, "last_id": last})

    async def retrieve(self, request: Request) -> Response:
        """Return a video."""
        return await self._answer(request, self.queue.get)

    async def stop(self, request: Request) -> Response:
        """End a video after its current segment, and keep it."""
        return await self._answer(request, self.queue.stop)

    async def resume(self, request: Request) -> Response:
        """Queue a video again that failed or was stopped."""
        return await self._answer(request, self.queue.resume)

    async def delete(self, request: Request) -> Response:
        """Delete a video; its folder goes to the trash."""
        id = request.path_params["id"]
        await called(lambda: self.queue.delete(id))
        return JsonAnswer({"id": id, "object": "video.deleted", "deleted": True})

    async def _answer(self, request: Request, action: Callable[[str], object]) -> Response:
        id = request.path_params["id"]

        def acted() -> dict[str, Any]:
            action(id)
            return self._video(id)

        return JsonAnswer(await called(acted))

    def _video(self, id: str) -> dict[str, Any]:
        return video_object(self.queue.get(id), self.queue.progress(id))
