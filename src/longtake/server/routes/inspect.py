"""What a video or image file says about how it was made, for a page that restores its form from it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.pipelines.carried.file_report import FileReport, report_of
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.body import Bodies


class Inspections:
    """The handler of `/v1/inspect`."""

    def __init__(self, bodies: Bodies):
        self.bodies = bodies

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/inspect", self.inspect, methods=["POST"])]

    async def inspect(self, request: Request) -> Response:
        """Return the settings that a file carries, of longtake or of another tool. 422 if it says nothing."""
        async with self.bodies.of(request) as body:
            if len(body.files) != 1:
                raise ApiError(400, "missing_field", "Send one file, in the field file of a form.", "file")
            tags = await self.bodies.checks.tags(next(iter(body.files.values())), "file")
            return await asyncio.to_thread(_answer, tags, body.facts.get("fps"))


def _answer(tags: Mapping[str, str], fps: float | None) -> Response:
    facts = inspected(report_of(Path("this file"), tags), fps)
    try:
        return JsonAnswer(facts)
    except ValueError as error:  # half a character, or a number that is not finite
        message = (
            "The settings of this file hold what JSON cannot say: half a character, or a number that is not finite."
        )
        raise ApiError(422, "unusable_settings", message, "file") from error


def inspected(report: FileReport, fps: float | None) -> dict[str, Any]:
    """Return the JSON of a report: settings as a page restores them, with the frame rate and the number of frames."""
    if report.problem:
        raise ApiError(422, "unusable_settings", report.problem, "file")
    if not report.found:
        raise ApiError(422, "no_settings", "This file says nothing about how it was made.", "file")
    found: dict[str, Any] = {"object": "settings", "made_by": report.facts()["made_by"]}
    if report.carried is not None:
        video, script = (report.carried.get(name) or {} for name in ("video", "script"))
        rate = video.get("fps", fps)
        return {
            **found,
            "settings": report.carried,
            "fps": _number(rate),
            "frames": script.get("frames", video.get("frames")),
        }
    keywords = report.facts()["keywords"]
    return {**found, "settings": keywords, "fps": keywords.get("fps", fps), "frames": keywords.get("num_frames")}


def _number(rate: Any) -> float | None:
    """Return a frame rate, which may be written as a fraction."""
    top, _, bottom = str(rate).partition("/")
    try:
        found = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return found if math.isfinite(found) else None
