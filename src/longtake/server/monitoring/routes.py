"""GET /health and GET /metrics."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.version import VERSION
from longtake.runs.jobs.queue import JobQueue
from longtake.server.answers import JsonAnswer
from longtake.server.monitoring.metrics import Metrics
from longtake.server.monitoring.series import CONTENT_TYPE


class Monitoring:
    """The handlers of /health and /metrics."""

    def __init__(self, queue: JobQueue, metrics: Metrics):
        self.queue, self.metrics = queue, metrics

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/health", self.health), Route("/metrics", self.page)]

    async def health(self, request: Request) -> Response:
        """Answer that the server runs and can read its queue. Needs no token, and says nothing of the videos."""
        await asyncio.to_thread(self.queue.counts)
        return JsonAnswer({"status": "ok", "version": VERSION})

    async def page(self, request: Request) -> Response:
        """Answer with all numbers in the text format of Prometheus."""
        return Response(await asyncio.to_thread(self.metrics.text), 200, {"content-type": CONTENT_TYPE})
