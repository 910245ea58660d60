"""What a person or a program is shown while a video is generated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

from longtake.core.units import argument, command_line, duration
from longtake.engine.events import Frames, StepDone, WindowStarted
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.runs import Event, FileWritten, PublishedVideo, RunFinished, RunOpened, SegmentWritten
from longtake.runs.event_schema import event_line, schema_line, stopped_line

NARROW = 105  # columns below which a bar has no room beside all numbers


class Output(Protocol):
    """Shows the events of a run; entered before the first and left after the last."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def stopped(self, folder: Path, published: PublishedVideo | None, file: FileWritten | None) -> None:
        """Say that the user stopped the run.

        published, file: the video of an endless run and the finished file, as far as it was generated.
        """

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress:
    """Counts of a run. start: frames that existed before it; step and steps: model calls of the current window.

    work: from the index of a window, the latent frames that go through the network from there to the end, summed over the
    steps (None: nobody can say, as of an endless video).
    """

    def __init__(self, settings: RunSettings, work: Callable[[int], int | None] = lambda index: None):
        self.settings, self.started, self.work = settings, time.perf_counter(), work
        self.start = self.frames = self.segments = self.window = 0
        self.step = self.steps = 0
        self.all: int | None = None
        self.done = self.columns = 0

    def count(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, RunOpened):
            self.start = self.frames = event.frames
            self.segments, self.started = event.segments, time.perf_counter()
        elif isinstance(event, WindowStarted):
            if not self.window:  # what came before was read, not generated
                self.start, self.started, self.all = self.frames, time.perf_counter(), self.work(event.index)
            self.done += self.columns
            self.window, self.step, self.steps = event.index + 1, 0, event.steps
            self.columns = event.window.steps * len(event.window.frames)
        elif isinstance(event, StepDone):
            self.step, self.steps = event.step, event.steps
        elif isinstance(event, Frames):
            self.frames = event.first + event.video.shape[2]
        elif isinstance(event, SegmentWritten):
            self.segments = max(self.segments, event.index + 1)

    @property
    def rate(self) -> float:
        """Output frames per second of this run."""
        return (self.frames - self.start) / max(1e-6, time.perf_counter() - self.started)

    @property
    def segments_in_all(self) -> str:
        """The number of segments of the whole video."""
        whole = max(1, round(self.settings.fps))
        return "∞" if self.settings.frames is None else str(-(-self.settings.frames // whole))

    @property
    def left(self) -> str:
        """The remaining time, from the model calls of this run; "" before the first one, and of an endless video."""
        done = self.done + (self.columns * self.step / self.steps if self.steps else 0)
        if not self.all or not done:
            return ""
        return f"{duration(max(0.0, (self.all / done - 1) * (time.perf_counter() - self.started)))} to go"

    def line(self, short: bool = False) -> str:
        """Describe in one line how far the run is; short: without the numbers of segments and windows."""
        step = f"step {self.step}/{self.steps}" if self.window else "frames of the given video"
        parts = [
            *([] if short else [f"segment {self.segments}/{self.segments_in_all}"]),
            step if short or not self.window else f"window {self.window} · {step}",
            f"{self.frames / self.settings.fps:.1f} s {'generated' if self.window else 'written'}",
        ]
        if self.frames > self.start:
            parts.append(f"{self.rate:.1f} fps")
        return " · ".join([*parts, *filter(None, [self.left])])


class LineOutput:
    """Plain lines for logs: one per segment."""

    def __init__(self, console: Console, progress: Progress, folder: Path):
        self.console, self.folder, self.progress = console, folder, progress
        self.file: FileWritten | None = None

    def show(self, event: Event) -> None:
        """Show an event, if it opens, advances or completes the run."""
        self.progress.count(event)
        if isinstance(event, RunOpened) and event.frames and event.frames != self.progress.settings.frames:
            seconds = event.frames / self.progress.settings.fps
            self.console.print(f"continuing after {seconds:.1f} s; {event.segments} segments are on disk")
        if isinstance(event, SegmentWritten):
            self._segment()
        if isinstance(event, FileWritten):
            self.file = event
        if isinstance(event, RunFinished):
            _name_files(self.console, self.progress, event.published, self.file)

    def _segment(self) -> None:
        self.console.print(self.progress.line(), soft_wrap=True)

    def stopped(self, folder: Path, published: PublishedVideo | None, file: FileWritten | None) -> None:
        """Say how to resume the run, and where the video is so far."""
        line = command_line(["longtake", "resume", argument(folder)])
        count = f"; {self.progress.segments} segments are on disk" if self.progress.segments else ""
        self.console.print(f"\nstopped{count}. Continue with: [bold]{escape(line)}[/]", soft_wrap=True)
        if published:
            video = escape(str(file.path if file else published.video))
            self.console.print(f"the video so far: [bold]{video}[/], {escape(str(published.sheet))}", soft_wrap=True)

    def __enter__(self) -> LineOutput:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


class LiveOutput(LineOutput):
    """A progress bar in a terminal."""

    def __init__(self, console: Console, progress: Progress, folder: Path):
        super().__init__(console, progress, folder)
        columns = [bars.BarColumn(bar_width=24), bars.TextColumn("{task.description}")]
        self.bar = bars.Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task("", total=progress.settings.frames)

    def show(self, event: Event) -> None:
        """Show an event, and move the bar."""
        super().show(event)
        if isinstance(event, WindowStarted | StepDone | Frames):
            part = self.progress.frames if self.progress.settings.frames else None
            line = self.progress.line(short=self.console.width < NARROW)
            self.bar.update(self.task, completed=part, description=line)

    def _segment(self) -> None:
        """Print nothing: the bar shows the segments."""

    def __enter__(self) -> LiveOutput:
        self.bar.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.bar.stop()


class QuietOutput(LineOutput):
    """The lines that open and complete a run; its progress is shown beside a preview."""

    def _segment(self) -> None:
        """Print nothing: the preview has the progress below it."""


class JsonOutput:
    """One JSON object per line, for programs (see `longtake.runs.event_schema`)."""

    def __init__(self, out: TextIO):
        self.out = out

    def show(self, event: Event) -> None:
        """Write an event."""
        self._write(event_line(event))

    def stopped(self, folder: Path, published: PublishedVideo | None, file: FileWritten | None) -> None:
        """Write that the user stopped the run."""
        self._write(stopped_line(folder, published))

    def _write(self, line: dict[str, Any]) -> None:
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()

    def __enter__(self) -> JsonOutput:
        self._write(schema_line())
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


def _name_files(console: Console, progress: Progress, published: PublishedVideo, file: FileWritten | None) -> None:
    """Print the length of the video, the speed and the paths."""
    seconds = published.frames / progress.settings.fps
    speed = f" at {progress.rate:.1f} fps" if progress.frames > progress.start else ""
    console.print(f"\n[bold green]done[/]: {seconds:.4g} s of video, {published.frames} frames{speed}")
    path, sha256 = (published.video, published.sha256) if file is None else (file.path, file.sha256)
    console.print(f"  video          [bold]{escape(str(path))}[/]", soft_wrap=True)
    if file is None or file.run_kept:
        console.print(f"  contact sheet  [bold]{escape(str(published.sheet))}[/]", soft_wrap=True)
    console.print(f"  sha256         {sha256}", soft_wrap=True)
