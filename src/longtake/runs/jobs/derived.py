"""Videos that are made from other videos of the queue: the same with other words, or longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.runs.files.layout import Layout
from longtake.runs.jobs.records.folder import Job
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.states import ENDED, WrongState

EXTENSION_SECONDS = 4  # of an extension without a length


@dataclass(frozen=True)
class Derived:
    """What to submit: a request, its input files by kind, and where it comes from."""

    request: JobRequest
    inputs: Mapping[str, Path]
    origin: Mapping[str, Any]


def remixed(source: Job, values: Mapping[str, Any]) -> Derived:
    """Return the video of a job with other keyword arguments, such as another prompt; seed and inputs stay."""
    request = source.request.merged(values)
    folder = Layout(source.folder).inputs
    return Derived(request, {kind: folder / name for kind, name in request.inputs.items()}, {"remix": source.id})


def extended(source: Job, values: Mapping[str, Any]) -> Derived:
    """Return a video that continues that of a job; its `seconds` are those of the new part.

    It has the settings of the source and the next seed, where `values` has no others. WrongState if the source has no video
    yet.
    """
    video = Layout(source.folder).video
    if source.status.state not in ENDED or not video.is_file():
        raise WrongState(
            f"the video {source.id} is {source.status.state} and cannot be extended before it has ended: wait, or stop it",
            source.status.state,
        )
    if not any(values.get(name) is not None for name in ("prompt", "scenes")):
        values = {**values, "prompt": source.request.prompt or source.request.text.splitlines()[-1]}
    given = any(values.get(name) is not None for name in ("seconds", "num_frames", "endless"))
    length = {} if given else {"seconds": EXTENSION_SECONDS}
    request = replace(source.request, inputs={}).merged({"seed": source.request.seed + 1, **length, **values})
    return Derived(request, {"video": video}, {"extends": source.id, "seconds": _seconds(source)})


def _seconds(source: Job) -> float | None:
    """Return how long the video of a job is, as far as that is known without reading it."""
    video = source.status.video
    if source.status.stopped:
        return video["frames_done"] / video["fps"] if "frames_done" in video else None
    return video.get("seconds")
