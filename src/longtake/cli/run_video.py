"""Shows a video while it is generated into its run directory, for the commands that record or reopen one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from rich.console import Console

from longtake.cli.planned_windows import MOST_COUNTED, windows
from longtake.cli.preview.shown import ShownPreview, pictures
from longtake.cli.progress import JsonOutput, LineOutput, LiveOutput, Output, Progress, QuietOutput
from longtake.core.platform import Stopped, stoppable
from longtake.engine.rollout import Rollout
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.pipelines.settings.video_continuation import Generation, VideoExtension
from longtake.runs import (
    Event,
    RunOpened,
    SegmentWritten,
    deliver,
    delivered,
    finished_before,
    manifest_of,
    publish_so_far,
    record,
)
from longtake.runs.video_run import VideoRun


def record_run(
    run: VideoRun, console: Console, allow: tuple[str, ...] = (), *, json: bool = False,
    on_open: Callable[[], None] | None = None, stop: int | None = None, preview: str | None = None,
) -> int:  # fmt: skip
    """Record the run and show its events; return the exit code. A stopped endless run is published as far as it is.

    on_open: called once the run directory is locked. stop: stop once so many output frames are durable (None: never).
    preview: what --preview says.
    """
    generation = run.generation()
    draw, progress = pictures(preview, console), Progress(run.settings, partial(_work, run.settings, generation))
    output = _output(run, console, json, progress, quiet=draw is not None)
    events = record(generation, run.manifest, run.folder, allow=allow, inputs=run.inputs.files)
    shown = events if stop is None else _stopped_at(events, stop)
    shown = _previewed(shown, ShownPreview(preview, draw, run.settings.video_model(run.model), console, progress.line))
    return _shown(shown, output, run.folder, run.settings.frames is None, on_open)


def show_finished(folder: Path, console: Console, *, json: bool = False) -> int:
    """Show the last events of a finished run, and write its files again where they are missing; loads no model."""
    manifest = manifest_of(folder)
    output = (
        JsonOutput(sys.stdout)
        if json
        else LineOutput(console, Progress(RunSettings.from_facts(manifest.settings)), folder)
    )
    return _shown(finished_before(folder), output, folder, False, None)


class _Reached(Stopped):
    """The end of a video that is generated as far as another one was, and could go on."""

    def __init__(self):
        super().__init__(signal.SIGINT)
        self.code = 0


def _stopped_at(events: Generator[Event], frames: int) -> Generator[Event]:
    """Yield the events of a run until so many output frames are durable, and stop then as a user would."""
    with closing(events):
        for event in events:
            yield event
            if isinstance(event, SegmentWritten) and event.first + event.frames >= frames:
                raise _Reached


def _shown(
    events: Generator[Event], output: Output, folder: Path, endless: bool, on_open: Callable[[], None] | None
) -> int:
    try:
        with stoppable(), closing(events), output:
            for event in delivered(events, folder):
                if isinstance(event, RunOpened) and on_open is not None:
                    on_open()
                output.show(event)
    except Stopped as stop:
        published = publish_so_far(folder) if endless else None
        file = deliver(folder, published) if published else None
        output.stopped(folder, published, file)
        return stop.code
    return 0


def _previewed(events: Generator[Event], preview: ShownPreview) -> Generator[Event]:
    """Yield the events of a run, and preview its steps once they were shown."""
    with closing(events):
        for event in events:
            yield event
            preview.see(event)
        preview.finish()


def _output(run: VideoRun, console: Console, json: bool, progress: Progress, quiet: bool) -> Output:
    if json:
        return JsonOutput(sys.stdout)
    kind = QuietOutput if quiet else LiveOutput if console.is_terminal else LineOutput
    return kind(console, progress, run.folder)


def _work(settings: RunSettings, generation: Generation, index: int) -> int | None:
    """Return the latent frames that go through the network from a window on, summed over the steps (see `Progress`)."""
    rollout = generation.rollout if isinstance(generation, VideoExtension) else generation
    if not isinstance(rollout, Rollout) or settings.frames is None or settings.frames > MOST_COUNTED * settings.fps:
        return None
    left = islice(windows(rollout.timeline.planner, settings.frames), index, None)
    return sum(window.steps * len(window.frames) for window in left)
