"""What a person or a program sees while a reel is made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from longtake.cli.preview import Calibration, duration
from longtake.events import Began, Called, Ended, Frames
from longtake.live import Switched
from longtake.reel import Done, Event, Opened, Published, Segment, Snapshot
from longtake.settings import Settings


class Watcher(Protocol):
    """Is told of every event; entered before the first and left after the last."""

    def saw(self, event: Event) -> None:
        """An event."""

    def stopped(self, folder: Path, published: Published | None) -> None:
        """The user stopped it; published: what became of an endless run."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tally:
    """What is known of a run so far. start: frames that were there before; calls: model calls in this run."""

    def __init__(self, settings: Settings):
        self.settings, self.begun = settings, time.perf_counter()
        self.start = self.frames = self.segments = self.window = 0
        self.step = self.steps = 0

    def saw(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Opened):
            self.start, self.frames, self.segments, self.begun = (
                event.frames,
                event.frames,
                event.segments,
                time.perf_counter(),
            )
        elif isinstance(event, Began):
            self.window, self.step, self.steps = event.index + 1, 0, event.window.calls
        elif isinstance(event, Called):
            self.step, self.steps = event.call, event.calls
        elif isinstance(event, Frames):
            self.frames = event.first + event.video.shape[2]
        elif isinstance(event, Segment):
            self.segments = max(self.segments, event.index + 1)

    @property
    def rate(self) -> float:
        """Output frames per second in this run."""
        return (self.frames - self.start) / max(1e-6, time.perf_counter() - self.begun)

    @property
    def segments_in_all(self) -> str:
        """How many segments there will be."""
        whole = max(1, round(self.settings.fps))
        return "∞" if self.settings.frames is None else str(-(-self.settings.frames // whole))

    @property
    def left(self) -> str:
        """Time to go, from what was measured in this run."""
        if self.settings.frames is None or self.frames <= self.start:
            return ""
        return f"{duration((self.settings.frames - self.frames) / self.rate)} to go"

    def line(self) -> str:
        """Where the run stands."""
        parts = [
            f"segment {self.segments}/{self.segments_in_all}",
            f"window {self.window}",
            f"step {self.step}/{self.steps}",
            f"{self.frames / self.settings.fps:.1f} s made",
        ]
        if self.frames > self.start:
            parts.append(f"{self.rate:.1f} fps")
        return " · ".join([*parts, *filter(None, [self.left])])


class Lines:
    """Plain lines, for logs: one per segment."""

    def __init__(self, console: Console, settings: Settings, folder: Path, speed: Calibration | None):
        self.console, self.folder, self.tally = console, folder, Tally(settings)

    def saw(self, event: Event) -> None:
        """See `Watcher`."""
        self.tally.saw(event)
        if isinstance(event, Opened) and event.frames:
            self.console.print(
                f"going on after {event.frames / self.tally.settings.fps:.1f} s, {event.segments} segments are on disk"
            )
        if isinstance(event, Segment):
            self._segment()
        if isinstance(event, Done):
            finished(self.console, self.tally, event.published)

    def _segment(self) -> None:
        self.console.print(self.tally.line(), soft_wrap=True)

    def stopped(self, folder: Path, published: Published | None) -> None:
        """See `Watcher`."""
        made = f"{self.tally.segments} segments are on disk"
        self.console.print(f"\nstopped; {made}. Go on with: [bold]longtake resume {folder}[/]", soft_wrap=True)
        if published:
            self.console.print(f"to watch what there is: [bold]{published.video}[/], {published.sheet}", soft_wrap=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


class Live(Lines):
    """A bar that moves, in a terminal."""

    def __init__(self, console: Console, settings: Settings, folder: Path, speed: Calibration | None):
        super().__init__(console, settings, folder, speed)
        columns = [BarColumn(bar_width=24), TextColumn("{task.description}")]
        self.progress = Progress(*columns, console=console, transient=True)
        self.task = self.progress.add_task("", total=settings.frames)

    def saw(self, event: Event) -> None:
        """See `Watcher`."""
        super().saw(event)
        if isinstance(event, Began | Called | Frames):
            part = self.tally.frames if self.tally.settings.frames else None
            self.progress.update(self.task, completed=part, description=self.tally.line())

    def _segment(self) -> None:
        """The bar says it."""

    def __enter__(self) -> Live:
        self.progress.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.progress.stop()


class Json:
    """One JSON object per line, for programs."""

    def __init__(self, out: TextIO):
        self.out = out

    def saw(self, event: Event) -> None:
        """See `Watcher`."""
        self._write(type(event).__name__.lower(), FACTS[type(event)](event))

    def stopped(self, folder: Path, published: Published | None) -> None:
        """See `Watcher`."""
        self._write("stopped", {"folder": str(folder), "video": published and str(published.video)})

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        self.out.write(json.dumps({"event": name, **facts}, default=str) + "\n")
        self.out.flush()

    def __enter__(self) -> Json:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


def _plain(event: Any) -> dict[str, Any]:
    return asdict(event) if is_dataclass(event) and not isinstance(event, type) else {}


FACTS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Began: lambda e: {"window": e.index, "calls": e.window.calls, "latents": len(e.window.frames), "frames": e.frames},
    Called: _plain,
    Ended: _plain,
    Frames: lambda e: {"first": e.first, "frames": e.video.shape[2]},
    Opened: _plain,
    Segment: _plain,
    Snapshot: _plain,
    Switched: _plain,
    Done: lambda e: _plain(e.published),
}


def finished(console: Console, tally: Tally, published: Published) -> None:
    """Name the files."""
    seconds = published.frames / tally.settings.fps
    speed = f" at {tally.rate:.1f} fps" if tally.frames > tally.start else ""
    console.print(f"\n[bold green]done[/]: {seconds:g} s of video, {published.frames} frames{speed}")
    console.print(f"  video          [bold]{published.video}[/]", soft_wrap=True)
    console.print(f"  contact sheet  [bold]{published.sheet}[/]", soft_wrap=True)
    console.print(f"  sha256         {published.sha256}", soft_wrap=True)
