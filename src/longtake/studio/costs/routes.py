"""The routes that show a plan and its cost: of the form before a run, and of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.options import SamplingOptions, split
from longtake.core.units import pixels
from longtake.models.spec import CheckpointSpec
from longtake.pipelines.estimate import planned_video, spec_of
from longtake.planning.script import Script
from longtake.planning.script_files import load_script
from longtake.planning.strategies.registry import check_options
from longtake.runs.files import manifest as manifests
from longtake.runs.files.edit_files import edited_manifest
from longtake.runs.files.folder import existing_layout
from longtake.runs.jobs.queue import JobQueue
from longtake.runs.jobs.records.folder import Job
from longtake.runs.jobs.states import NoSuchJob
from longtake.server.answers import JsonAnswer
from longtake.server.requests.calls import called
from longtake.server.requests.catalogue import DEFAULT, Catalogue
from longtake.server.requests.coercion import coerced
from longtake.server.requests.job_requests import new_request
from longtake.server.requests.json_body import json_body
from longtake.server.video_object import shown_model
from longtake.studio.costs.rates import Rates
from longtake.studio.costs.windows import planned_spans

BITS = 0.25  # per pixel of the encoded video, an upper estimate; segments and video.mp4 take it twice
SNAPSHOTS = 4  # the most that are on disk at a time, each with up to 48 frames that no segment holds yet
INPUTS = ("image", "last_image", "video", "input_video", "control", "input_reference")
_spec = lru_cache(64)(spec_of)


@dataclass(frozen=True)
class Planned:
    """A video that is asked for, as far as it can be planned without weights."""

    spec: CheckpointSpec
    strategy: str
    options: Mapping[str, Any]
    script: Script


class Costs:
    """The handlers."""

    def __init__(self, queue: JobQueue, catalogue: Catalogue):
        self.queue, self.catalogue = queue, catalogue
        self.rates = Rates(queue.store.own / "rates.json", self._key_of_job)
        queue.listen(self.rates.on_event)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/studio/cost", self.cost, methods=["POST"]),
            Route("/studio/windows/{id}", self.windows),
        ]

    async def cost(self, request: Request) -> Response:
        """Return windows, time and disk of a video that is asked for as in POST /v1/videos. seconds: null if never measured."""
        values = await json_body(request)
        return JsonAnswer(await called(lambda: self._cost(values)))

    async def windows(self, request: Request) -> Response:
        """Return the windows of a run, as its script is now."""
        id = request.path_params["id"]
        return JsonAnswer(await called(lambda: {"windows": self._windows(self.queue.get(id))}))

    def _cost(self, values: dict[str, Any]) -> dict[str, Any]:
        asked = {name: value for name, value in coerced(values).items() if name not in (*INPUTS, "n")}
        job = new_request(
            {"model": DEFAULT, "prompt": "any", **asked} if "scenes" not in asked else asked, self.catalogue
        )
        options = {
            name: value for name, value in job.options.items() if name not in ("seconds", "num_frames", "endless")
        }
        (sampling,), own = split(options, SamplingOptions)
        spec = _spec(job.model)
        size = sampling.size(spec.format.size) if sampling.sized else spec.format.size
        spec = _spec(job.model, size) if sampling.sized else spec
        given = {**own, **sampling.schedule()}
        check_options(job.strategy or spec.defaults.strategy, given)
        video = planned_video(spec, job.strategy, given, job.options.get("num_frames"), job.options.get("seconds"))
        fps = float(sampling.fps or spec.format.fps)
        endless = bool(job.options.get("endless"))
        scenes = job.request(self.queue.root).script
        script = load_script(scenes, fps, None if endless else video.frames / fps, endless)
        spans = planned_spans(spec, video.strategy, video.options, script)
        columns = sum(one.columns for one in spans)
        rate = self.rates.get(key(job.model, size, sampling.guidance_scale))
        frames = 60 * fps if endless else video.frames
        disk = size[0] * size[1] * (2 * frames * BITS / 8 + SNAPSHOTS * 48 * 3)
        return {
            "strategy": video.strategy,
            "windows": [one.facts() for one in spans],
            "seconds": None if rate is None else columns * rate,
            "disk": round(disk),
        }

    def _windows(self, job: Job) -> list[dict[str, int]]:
        if not (job.folder / "run.json").exists():
            return []
        layout = existing_layout(job.folder)
        settings = edited_manifest(layout, manifests.load(layout.manifest)).settings
        script = Script.from_facts(settings["script"])
        (sampling,), _ = split(settings.get("sampling", {}), SamplingOptions)
        progress = self.queue.progress(job.id)
        options = {**settings.get("strategy_options", {}), **sampling.schedule()}
        spec = _spec(settings["model"])
        made = 0 if progress is None else progress.frames
        return [one.facts() for one in planned_spans(spec, settings["strategy"], options, script, made)]

    def _key_of_job(self, id: str) -> str | None:
        try:
            job = self.queue.get(id)
        except NoSuchJob:
            return None
        size = job.status.video.get("size")
        guidance = job.request.options.get("guidance_scale")
        return None if size is None else f"{shown_model(job.request.model)} {size} {_branches(guidance)}"


def key(model: str, size: tuple[int, int], guidance: Any) -> str:
    """Return the key under which the rate of a model is kept."""
    return f"{shown_model(model)} {pixels(size)} {_branches(guidance)}"


def _branches(guidance: Any) -> int:
    return 1 if guidance == 1 else 2
