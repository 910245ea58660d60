"""The script of a video: its scenes, and edits of those that are not generated yet, also while it is generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Job
from longtake.runs.jobs.states import WrongState
from longtake.server.answers import JsonAnswer
from longtake.server.errors import ApiError
from longtake.server.requests.body import Bodies
from longtake.server.requests.calls import called
from longtake.server.requests.coercion import coerced

OPERATIONS = {
    "add": {"prompt", "seconds", "cut"},
    "insert": {"prompt", "at", "seconds", "cut"},
    "replace": {"prompt", "at", "cut"},
}
MOST_EDITS = 100


class Scripts:
    """The handlers of `/v1/videos/{id}/script`."""

    def __init__(self, queue: JobQueue, bodies: Bodies):
        self.queue, self.bodies = queue, bodies

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/v1/videos/{id}/script"
        return [Route(path, self.read), Route(path, self.edit, methods=["PATCH"])]

    async def read(self, request: Request) -> Response:
        """Return the scenes, and the first second that an edit can still change."""
        id = request.path_params["id"]
        return JsonAnswer(await called(lambda: script_object(self.queue.get(id))))

    async def edit(self, request: Request) -> Response:
        """Request edits; each is accepted from a second on, or waits for the next window."""
        id = request.path_params["id"]
        async with self.bodies.of(request) as body:
            edits = _edits(coerced(body.values))

        def edited() -> dict[str, Any]:
            job = self.queue.get(id)
            if not (job.folder / "run.json").exists():
                raise WrongState(
                    f"the video {id} has not begun: edit its script once its status is in_progress", job.status.state
                )
            stream = _stream(job)
            answers = [vars(getattr(stream, one["op"])(**{n: v for n, v in one.items() if n != "op"})) for one in edits]
            self.queue.notify(id, {"event": "edit"})
            return {**script_object(job), "edits": answers}

        return JsonAnswer(await called(edited))


def script_object(job: Job) -> dict[str, Any]:
    """Return the JSON of a script. earliest: the first second that an edit can still change."""
    if not (job.folder / "run.json").exists():
        return {"object": "video.script", "id": job.id, "earliest": 0, "scenes": _planned(job), "pending": []}
    stream = _stream(job)
    scenes = [vars(row) for row in stream.scenes()]
    pending = [edit.facts() for edit in stream.pending()]
    earliest = stream.earliest / stream.fps
    return {"object": "video.script", "id": job.id, "earliest": earliest, "scenes": scenes, "pending": pending}


def _planned(job: Job) -> list[dict[str, Any]]:
    """Return the scenes of a video that has not begun; when they start is settled when it does."""
    scenes = job.request.scenes or ({"prompt": job.request.prompt},)
    return [{"start": None, "end": None, "prompt": one["prompt"], "state": "planned"} for one in scenes]


def _stream(job: Job) -> Any:
    from longtake.runs.prompt_stream import PromptStream  # imports torch

    return PromptStream(job.folder)


def _edits(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the edits of a body: a single one, or a list under "edits". Raises ApiError 400."""
    listed = values.get("edits", [values])
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_EDITS:
        raise ApiError(400, "invalid_value", f"edits must be a list of 1 to {MOST_EDITS} edits", "edits")
    found = []
    for one in listed:
        if not isinstance(one, Mapping) or one.get("op") not in OPERATIONS:
            raise ApiError(400, "invalid_value", f"op of an edit is one of {', '.join(OPERATIONS)}", "op")
        given = coerced({name: value for name, value in one.items() if name != "op"})
        if unknown := given.keys() - OPERATIONS[one["op"]]:
            raise ApiError(400, "invalid_value", f"the edit {one['op']} has no field {min(unknown)!r}", min(unknown))
        if "prompt" not in given:
            raise ApiError(400, "missing_field", "an edit has a prompt", "prompt")
        found.append({"op": one["op"], **given})
    return found
