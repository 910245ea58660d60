"""The windows of a script on the output frames of a video, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from longtake.core.geometry import frames_of_latents
from longtake.models.spec import CheckpointSpec
from longtake.planning.script import Script
from longtake.planning.shots import ShotPlanner, TimelineWindow
from longtake.planning.strategies.registry import make_plan

MOST = 2000  # windows that a page draws
AHEAD = 60.0  # seconds of an endless video whose windows are planned


@dataclass(frozen=True)
class Span:
    """A window by the output frames in its view, first..end - 1. steps: model calls. columns: latent frames, over all steps."""

    index: int
    first: int
    end: int
    steps: int
    columns: int

    def facts(self) -> dict[str, int]:
        """Return the fields that a page draws."""
        return {"index": self.index, "first": self.first, "end": self.end, "steps": self.steps}


def planned_spans(
    spec: CheckpointSpec, strategy: str, options: Mapping[str, Any], script: Script, made: int = 0
) -> list[Span]:
    """Return the windows of a script; of an endless one those of what is made (in frames) and of a minute more.

    options: of the strategy and its schedule. Raises PlanError for what the strategy cannot plan.
    """
    if script.frames is None:
        script = bounded(script, made + round(AHEAD * spec.format.fps))
    given = 1 if spec.limits.conditioning == "concat" else 0
    planner = ShotPlanner(
        script,
        make_plan(strategy, **options),
        spec.limits,
        spec.temporal_compression,
        given_latents=given,
        strategy=strategy,
    )
    return list(islice(spans(planner.windows(), spec.temporal_compression), MOST))


def bounded(script: Script, frames: int) -> Script:
    """Return the first frames of an endless script as a script with an end."""
    kept = [(scene, start) for scene, start in zip(script.scenes, script.starts) if start < frames]
    scenes, starts = zip(*kept)
    return replace(script, scenes=scenes, starts=starts, frames=frames)


def spans(windows: Iterable[TimelineWindow], temporal_compression: int) -> Iterator[Span]:
    """Place windows on the output frames. A cut begins another clip, which repeats the overlap of the one before it."""
    start = last = 0  # output frame at which the clip begins; latents that it has so far
    for index, planned in enumerate(windows):
        window = planned.window
        if planned.shot_start is not None:
            start, last = planned.first, 0
        elif window.cut is not None and last:
            start, last = start + frames_of_latents(last, temporal_compression) - window.cut.overlap, 0
        shown = [frame for frame, role in zip(window.frames, window.role) if role != "keyframe"]
        if not shown:
            continue
        first = start + frames_of_latents(min(shown), temporal_compression)
        end = start + frames_of_latents(1 + max(shown), temporal_compression)
        last = 1 + max(shown)
        if planned.end is not None:
            end = min(end, planned.end)
        yield Span(index, first, end, window.steps, window.steps * len(window.frames))
