"""The windows of a video before they are generated, for its preview and for the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from longtake.planning.shots import ShotPlanner
from longtake.planning.window import Window

MOST_COUNTED = 6000.0  # seconds of video whose windows are counted


def windows(planner: ShotPlanner, frames: int) -> Iterator[Window]:
    """Yield the windows of a video, of an endless one those of its first `frames` new output frames."""
    script = planner.script
    if script.frames is None:
        kept = [(scene, start) for scene, start in zip(script.scenes, script.starts) if start < frames]
        scenes, starts = zip(*kept)
        planner = replace(planner, script=replace(script, scenes=scenes, starts=starts, frames=frames))
    return (planned.window for planned in planner.windows())
