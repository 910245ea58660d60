"""What the library of a page needs: stars, the order of the queue, the trash, and the settings that made a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.planning.script import in_folder
from longtake.runs.files import manifest as manifests
from longtake.runs.files.edit_files import edited_manifest
from longtake.runs.files.folder import existing_layout
from longtake.runs.jobs import library
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Job
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.calls import called
from longtake.server.requests.json_body import json_body
from longtake.server.video_object import shown_model, video_object


class Library:
    """The handlers."""

    def __init__(self, queue: JobQueue):
        self.queue = queue

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/videos/{id}/star", self.star, methods=["POST"]),
            Route("/v1/videos/{id}/move", self.move, methods=["POST"]),
            Route("/v1/videos/{id}/restore", self.restore, methods=["POST"]),
            Route("/v1/videos/{id}/settings", self.settings),
        ]

    async def star(self, request: Request) -> Response:
        """Star a video ({"starred": true}) or take its star away; returns the video."""
        id, starred = request.path_params["id"], (await json_body(request)).get("starred", True)
        if not isinstance(starred, bool):
            raise ApiError(400, "invalid_value", "starred is true or false.", "starred")
        return await self._answer(id, lambda: library.set_star(self.queue, id, starred))

    async def move(self, request: Request) -> Response:
        """Move a video that waits to a place in the queue ({"place": 0} is the first); returns the video."""
        id, place = request.path_params["id"], (await json_body(request)).get("place")
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < 1 << 20:
            raise ApiError(400, "invalid_value", "place is a whole number, 0 for the first.", "place")
        return await self._answer(id, lambda: library.move(self.queue, id, place))

    async def restore(self, request: Request) -> Response:
        """Bring a deleted video back from the trash; returns the video."""
        id = request.path_params["id"]
        return await self._answer(id, lambda: library.restore(self.queue, id))

    async def settings(self, request: Request) -> Response:
        """Return what a video is or was made with, edits of its script included."""
        id = request.path_params["id"]
        return JsonAnswer(await called(lambda: settings_object(self.queue.get(id))))

    async def _answer(self, id: str, action: Callable[[], object]) -> Response:
        def acted() -> dict[str, Any]:
            action()
            return video_object(self.queue.get(id), self.queue.progress(id))

        return JsonAnswer(await called(acted))


def settings_object(job: Job) -> dict[str, Any]:
    """Return the JSON of the settings of a job: those of its run, or of its request while it waits. No paths are in it."""
    video = job.status.video
    found = _of_run(job) if (job.folder / "run.json").exists() else _of_request(job)
    frames = video["frames"] if "frames" in video else job.request.options.get("num_frames")
    return {"object": "video.settings", "id": job.id, "settings": found, "fps": video.get("fps"), "frames": frames}


def _of_request(job: Job) -> dict[str, Any]:
    facts = job.request.facts()
    found: dict[str, Any] = {"model": shown_model(job.request.model)}
    found |= {name: facts[name] for name in ("prompt", "scenes", "strategy") if name in facts}
    if job.request.loras:
        found["loras"] = [[_name(file), strength] for file, strength in job.request.loras]
    return found | dict(job.request.options)


def _of_run(job: Job) -> dict[str, Any]:
    layout = existing_layout(job.folder)
    settings = edited_manifest(layout, manifests.load(layout.manifest)).settings
    names = ("strategy", "strategy_options", "sampling")
    script = {**settings["script"], "scenes": [_scene(one) for one in settings["script"]["scenes"]]}
    return {
        "model": shown_model(settings["model"]),
        "script": script,
        **{n: settings[n] for n in names if n in settings},
    }


def _scene(facts: Mapping[str, Any]) -> dict[str, Any]:
    loras = [[_name(file), strength] for file, strength in facts.get("lora", ())]
    return {**facts, **({"lora": loras} if loras else {})}


def _name(lora: str) -> str:
    """Return the name of a LoRA without the folders that it lies in."""
    return in_folder(lora, lambda file: file.replace("\\", "/").rpartition("/")[2])  # type: ignore[arg-type, return-value]
