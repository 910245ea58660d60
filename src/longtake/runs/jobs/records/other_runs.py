"""Run directories that the command line or a program made: they are listed with the jobs, and never written here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.core.units import pixels
from longtake.runs.files.layout import Layout, is_locked
from longtake.runs.jobs.numbering import run_id
from longtake.runs.jobs.records.folder import Job, job_file
from longtake.runs.jobs.request import JobRequest
from longtake.runs.jobs.states import COMPLETED, FAILED, RUNNING, JobError, Status

MOST_BYTES = 1 << 22  # of a run.json
TAIL = 1 << 16  # bytes of the journal that say how the run ended
INTERRUPTED = JobError("interrupted", "the run was interrupted before its end; it can be resumed")


def is_other_run(folder: Path) -> bool:
    """Whether a folder is a run directory and no job."""
    return (folder / "run.json").is_file() and not job_file(folder).exists()


def read_run(folder: Path) -> Job | None:
    """Describe a run directory as a job; None if it is none, or cannot be read."""
    path = folder / "run.json"
    try:
        about = os.lstat(path)
        if path.is_symlink() or about.st_size > MOST_BYTES:
            return None
        document = json.loads(path.read_bytes())
        video, number = _video(document), about.st_mtime_ns // 1000
        request = request_of(document["settings"])
        status = status_of(folder, video, number)
        json.dumps([request.facts(), status.facts()], allow_nan=False)  # what no JSON can hold, nobody can be shown
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return None
    return Job(run_id(folder.name), folder, number, about.st_mtime, request, status)


def status_of(folder: Path, video: Mapping[str, Any], number: int) -> Status:
    """Return the status of a run: written by a process, complete, published as far as it is, or interrupted."""
    layout = Layout(folder)
    kinds, at = _last_kinds(layout.journal)
    if "done" in kinds:
        return Status(COMPLETED, at, number, video=video)
    if is_locked(layout):
        return Status(RUNNING, at, number, video=video)
    if kinds and kinds[-1] == "video":
        return Status(COMPLETED, at, number, stopped=True, video=video)
    return Status(FAILED, at, number, error=INTERRUPTED, video=video)


def request_of(settings: Mapping[str, Any]) -> JobRequest:
    """Return the request that asks for a video with the settings of a run.json."""
    script, inputs = settings["script"], settings.get("inputs", {})
    options = {**settings.get("sampling", {}), **settings.get("strategy_options", {})}
    if options.get("sigmas") == "":
        del options["sigmas"]
    scenes = tuple(script["scenes"])
    single = len(scenes) == 1 and scenes[0]["prompt"]
    length = {"endless": True} if script["frames"] is None else {"num_frames": script["frames"]}
    load = {name: value for name, value in settings.get("load", {}).items() if name != "device"}
    files = {kind: fact["name"] for kind, fact in inputs.items() if isinstance(fact, Mapping) and "name" in fact}
    return JobRequest(
        settings["model"], single or None, None if single else scenes, settings["strategy"], (), load,
        {**options, **length}, files,
    )  # fmt: skip


def _video(document: Mapping[str, Any]) -> dict[str, Any]:
    video, settings = document["video"], document["settings"]
    fps, frames = float(Fraction(video["fps"])), video["frames"]
    return {
        "model": settings["model"],
        "seed": settings.get("sampling", {}).get("seed", 0),
        "fps": fps,
        "size": pixels((video["height"], video["width"])),
        "frames": frames,
        "seconds": None if frames is None else frames / fps,
    }


def _last_kinds(journal: Path) -> tuple[list[str], float]:
    """Return the kinds of the last lines of a journal, and when it was written."""
    try:
        with open(journal, "rb") as file:
            about = os.fstat(file.fileno())
            file.seek(max(0, about.st_size - TAIL))
            return [kind.decode() for kind in re.findall(rb'^\{"kind":"(\w+)"', file.read(), re.M)], about.st_mtime
    except FileNotFoundError:
        return [], 0.0
