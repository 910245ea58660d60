"""A job as clients of the API see it: the object `video` of the `openai` package, and further fields."""

from __future__ import annotations

from typing import Any

from longtake.core.units import pixels
from longtake.pipelines.settings.request import DEFAULT_SECONDS
from longtake.runs.jobs.library import is_starred
from longtake.runs.jobs.progress import Progress
from longtake.runs.jobs.records.folder import Job
from longtake.runs.jobs.states import COMPLETED, ENDED, FAILED, QUEUED, JobError
from longtake.server.answers import without_folders

ACTIVE_STATUS = "in_progress"  # of a job that a worker has; pollers end at every status that they do not know


def video_object(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Return the JSON of a video. progress: of a job that a worker has."""
    status, request = job.status, job.request
    found: dict[str, Any] = {
        "id": job.id,
        "object": "video",
        "model": shown_model(request.model),
        "status": status.state if status.state in (QUEUED, COMPLETED, FAILED) else ACTIVE_STATUS,
        "state": status.state,
        "progress": percentage(job, progress),
        "created_at": int(job.created_at),
        "completed_at": int(status.at) if status.state in ENDED else None,
        "expires_at": None,
        "prompt": request.text,
        "seconds": seconds_text(job),
        "size": status.video.get("size") or requested_size(job),
        "remixed_from_video_id": (job.origin or {}).get("remix"),
        "extended_from_video_id": (job.origin or {}).get("extends"),
        "error": None if status.error is None else error_object(status.error),
        "stopped": status.stopped and status.state in ENDED,
        "endless": bool(request.options.get("endless")),
        "seed": status.video.get("seed", request.seed),
        "fps": status.video.get("fps", request.options.get("fps")),
        "num_frames": status.video.get("frames", request.options.get("num_frames")),
    }
    if status.state == QUEUED:
        found["position"] = status.position
    if is_starred(job):
        found["starred"] = True
    if progress is not None:
        found["frames_done"], found["segments_done"] = progress.frames, progress.segments
    elif "frames_done" in status.video:
        found["frames_done"] = status.video["frames_done"]
    if job.variations:
        found["variations"] = list(job.variations)
    return found


def error_object(error: JobError) -> dict[str, Any]:
    """Return the JSON of why a job failed."""
    return {**error.facts(), "message": without_folders(error.message)}


def percentage(job: Job, progress: Progress | None) -> int:
    """Return how much of a video is done, 0 to 100; 0 for one without end."""
    if job.status.state == COMPLETED:
        return 100
    frames = job.status.video.get("frames")
    return 0 if progress is None or not frames else min(99, 100 * progress.frames // frames)


def seconds_text(job: Job) -> str | None:
    """Return the length of the whole video as text, such as "8"; None for one without end, and while it is not known."""
    seconds = _seconds(job)
    return None if seconds is None else f"{seconds:.6g}"


def _seconds(job: Job) -> float | None:
    options, known, origin = job.request.options, job.status.video, job.origin or {}
    if "frames_done" in known and job.status.stopped:
        return known["frames_done"] / known["fps"]
    if "seconds" in known:
        return known["seconds"]
    before = origin.get("seconds", 0)
    new = options.get("seconds")
    if new is None and not (options.get("endless") or options.get("num_frames") or job.request.scenes):
        new = DEFAULT_SECONDS
    return None if new is None or before is None or ("video" in job.request.inputs and not origin) else before + new


def shown_model(name: str) -> str:
    """Return the name of a model without the folders that it lies in."""
    name = name.partition("=")[0]
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if name[:1] in "/~." or ":" in name[:3] else name


def requested_size(job: Job) -> str | None:
    """Return the size that was asked for; None for the model's own."""
    height, width = (job.request.options.get(name) for name in ("height", "width"))
    return pixels((height, width)) if height and width else None
