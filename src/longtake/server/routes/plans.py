"""POST /v1/plan: the plan of a video and what it takes, before anything is generated or downloaded."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from longtake.core.errors import SettingsError
from longtake.core.options import SamplingOptions, split
from longtake.core.units import pixels
from longtake.pipelines.estimate import counted, estimate, planned_video, spec_of
from longtake.planning.strategies.registry import check_options
from longtake.runs.jobs.request import JobRequest
from longtake.server.answers import JsonAnswer
from longtake.server.requests.body import Bodies
from longtake.server.requests.calls import called
from longtake.server.requests.catalogue import DEFAULT, Catalogue
from longtake.server.requests.coercion import coerced
from longtake.server.requests.job_requests import new_request

MOST_FRAMES = 200_000  # whose windows are counted
MOST_AT_ONCE = 2  # plans that are counted, each with a processor of its own for some seconds


class Plans:
    """The handler of `/v1/plan`. It takes the fields of a new video."""

    def __init__(self, catalogue: Catalogue, bodies: Bodies):
        self.catalogue, self.bodies, self._counting = catalogue, bodies, asyncio.Semaphore(MOST_AT_ONCE)

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/v1/plan", self.plan, methods=["POST"])]

    async def plan(self, request: Request) -> Response:
        """Return windows, model calls, operations and memory of a video; no weights are needed."""
        async with self.bodies.of(request) as body:
            values = {"model": DEFAULT, **coerced(body.values)}
            if "scenes" not in values:
                values.setdefault("prompt", "any")
            name = str(values["model"])
            async with self._counting:
                return JsonAnswer(await called(lambda: plan_of(name, new_request(values, self.catalogue))))


def plan_of(name: str, asked: JobRequest) -> dict[str, Any]:
    """Return the JSON of a plan. Raises InputErrors for what cannot be generated. name: of the model, for clients."""
    options = {key: value for key, value in asked.options.items() if key not in ("seconds", "num_frames", "endless")}
    (sampling,), strategy_options = split(options, SamplingOptions)
    given = {**strategy_options, **sampling.schedule()}
    spec = spec_of(asked.model)
    if sampling.sized:
        spec = spec_of(asked.model, sampling.size(spec.format.size))
    check_options(asked.strategy or spec.defaults.strategy, given)
    video = planned_video(spec, asked.strategy, given, asked.options.get("num_frames"), _seconds(asked))
    if video.frames > MOST_FRAMES:
        raise SettingsError(
            f"a plan of at most {MOST_FRAMES:,} frames is counted, not of {video.frames:,}: ask for less"
        )
    fps = float(spec.format.fps)
    facts = {
        "object": "plan", "model": name, "strategy": video.strategy, "size": pixels(spec.format.size), "fps": fps,
        "num_frames": video.frames, "seconds": video.frames / fps,
    }  # fmt: skip
    if spec.meta is None:
        found = counted(spec, video, given)
        weights, work = dict(spec.weights), found.work
        cost, flops, peak = found.cost, work.flops, sum(spec.weights.values()) + work.activations
    else:
        run = estimate(spec, video)
        weights, cost, flops = dict(run.weights), run.cost, run.total
        peak = sum(run.weights.values()) + run.peak
    memory = {"weights": {part: round(size) for part, size in weights.items()}, "peak": round(peak)}
    return {
        **facts,
        "windows": cost.windows,
        "clips": cost.clips,
        "model_calls": cost.steps,
        "flops": flops,
        "memory_bytes": memory,
    }


def _seconds(asked: JobRequest) -> float | None:
    """Return the length that was asked for, or that of the scenes where each has one; None if there is neither."""
    seconds: float | None = asked.options.get("seconds")
    of_scenes = [float(one["seconds"]) for one in asked.scenes or () if one.get("seconds") is not None]
    whole = asked.scenes is not None and len(of_scenes) == len(asked.scenes)
    return sum(of_scenes) if seconds is None and whole else seconds
