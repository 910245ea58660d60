"""How a worker generates a job: a new run directory, or one that is resumed, with the model of the job before if it suits."""

from __future__ import annotations

import errno
import time
import traceback
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from longtake.core.errors import InputError, LongtakeError, NonFiniteError
from longtake.core.units import pixels
from longtake.models import load
from longtake.models.model import Model
from longtake.models.runtime.load_options import LoadOptions, resolve_device
from longtake.pipelines.call.prompts import first_option, in_python_words
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.pipelines.settings.threads import default_threads
from longtake.planning.strategies.registry import check_options
from longtake.runs.event_schema import event_line
from longtake.runs.events import SegmentWritten
from longtake.runs.files import journal
from longtake.runs.files.errors import DISK_FULL, RunError
from longtake.runs.files.layout import Layout, is_locked
from longtake.runs.jobs.records.folder import preview_file, read_job
from longtake.runs.jobs.states import JobError
from longtake.runs.jobs.workers.program.previews import Previews
from longtake.runs.recorder import publish_so_far, record
from longtake.runs.video_run import VideoRun, reopen

LOCK_SECONDS = 10.0  # to wait for a run that a process which is dying still holds


class Orders(Protocol):
    """Ids of jobs that are to end after their segment, or at once, and until when somebody watches previews of one."""

    stopped: set[str]
    cancelled: set[str]
    previewed: dict[str, float]


class Events(Protocol):
    """Where the events of the job go."""

    def write(self, event: dict[str, Any]) -> None:
        """Write an event."""


class Generator:
    """Generates jobs on a device, one after the other."""

    def __init__(self, device: str, orders: Orders, events: Events):
        self._device, self.orders, self.events = device, orders, events
        self._model: tuple[str, LoadOptions, Model] | None = None
        self._threads = default_threads()

    def run(self, order: dict[str, Any]) -> bool:
        """Generate a job and write how it ended; return whether the worker can go on with another one."""
        frames, error, sound = None, None, True
        try:
            frames = self._generate(order["id"], Path(order["run"]), bool(order.get("stop")))
        except LongtakeError as fault:
            error = error_of(fault)
        except Exception as fault:
            error, sound = _unexpected(fault), False
        facts = None if error is None else error.facts()
        ended = {"stopped": frames is not None, "frames": frames, "error": facts}
        self.events.write({"event": "job_ended", "cancelled": order["id"] in self.orders.cancelled, **ended})
        return sound

    def _generate(self, id: str, folder: Path, stop: bool) -> int | None:
        """Generate until the video is complete, or until an order ends it; return the frames of a video that was stopped."""
        layout, until = Layout(folder), time.monotonic() + LOCK_SECONDS
        while is_locked(layout) and time.monotonic() < until:
            time.sleep(0.05)
        if stop:
            self.orders.stopped.add(id)
            if layout.manifest.exists() and any(journal.segments(layout.journal)):
                return _published(folder)
        run = self._opened(folder)
        self.events.write({"event": "job_began", "video": video_facts(run)})
        events = record(run.generation(), run.manifest, folder, inputs=run.inputs.files)
        previews = Previews(run.settings.video_model(run.model), preview_file(folder))
        with closing(events):
            for event in events:
                self.events.write(event_line(event))
                previews.on_event(event, self.orders.previewed.get(id, 0.0))
                if id in self.orders.cancelled:
                    return None
                if id in self.orders.stopped and isinstance(event, SegmentWritten) and not event.repeated:
                    break
            else:
                return None
        return _published(folder)

    def _opened(self, folder: Path) -> VideoRun:
        """Return the run of a job, new or opened again."""
        torch.set_num_threads(self._threads)
        if Layout(folder).manifest.exists():
            return reopen(folder, load=self._load)
        job = read_job(folder)
        if job is None:
            raise RunError(f"{folder} holds no job")
        request = job.request.request(Layout(folder).inputs)
        request = replace(request, load=job.request.load_options(self._device))
        assert request.load is not None
        model = self._load(job.request.model, request.load)
        check_options(request.strategy or model.defaults.strategy, request.strategy_options)
        return VideoRun(RunSettings.resolve(model, request), model, request.inputs, folder)

    def _load(self, name: str, options: LoadOptions) -> Model:
        """Return a loaded model; the one of the job before if it is the same."""
        own = resolve_device(self._device)
        if options.device.split(":")[0] in ("auto", own.split(":")[0]):
            options = replace(options, device=own)  # the worker's own of several GPUs
        if self._model is None or self._model[:2] != (name, options):
            self._model = None  # the memory of the old one is free before the new one is loaded
            self._model = name, options, load(name, load_options=options)
        return self._model[2]


def _published(folder: Path) -> int | None:
    """Write video.mp4 of a run as far as it is, and return its frames."""
    published = publish_so_far(folder)
    return None if published is None else published.frames


def video_facts(run: VideoRun) -> dict[str, Any]:
    """Return what is known of a video once its request is resolved."""
    settings, manifest = run.settings, run.manifest
    frames = settings.frames
    return {
        "model": settings.model,
        "seed": settings.seed,
        "fps": settings.fps,
        "size": pixels(manifest.size),
        "frames": frames,
        "seconds": None if frames is None else frames / settings.fps,
    }


def error_of(fault: Exception) -> JobError:
    """Return the error of a job for an error that is meant for the user."""
    cause, message = fault.__cause__, in_python_words(str(fault))
    if isinstance(fault, InputError):
        return JobError("invalid_request", message, first_option(str(fault)))
    if isinstance(cause, OSError) and cause.errno in DISK_FULL:
        return JobError("disk_full", message)
    return JobError("non_finite" if isinstance(cause, NonFiniteError) else "run_failed", message)


def _unexpected(fault: Exception) -> JobError:
    """Return the error of a job for a fault of the program, or of the memory of the machine."""
    traceback.print_exc()
    if isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError" or "allocate memory" in str(fault):
        return JobError(
            "out_of_memory",
            "this video needs more memory than there is: use a smaller size, a shorter window, offload or fp8",
        )
    if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
        return JobError("disk_full", "the disk is full: free some space and resume the job")
    return JobError("internal_error", f"{type(fault).__name__}: {fault}")
