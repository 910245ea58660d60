"""The plan before the run: scenes, windows, calls, and what they will cost here."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from longtake.cli.picture import panels
from longtake.cli.terminal import draw
from longtake.engine import Rollout
from longtake.events import Called, Ended, Frames
from longtake.models.base import Model
from longtake.plan import Cost, Window, cost
from longtake.refine import second
from longtake.script import Script
from longtake.settings import Settings, SettingsError

MINUTE = 60.0
COMPRESSED = 0.25  # bits per pixel of the encoded video, generously; twice, for segments and video.mp4
GIVEN = {
    "video": "     0.0 s  the video that this one goes on from, {:g} s",
    "image": "     0.0 s  begins with the image",
    "end": "   the end  comes to the end image",
}
SNAPSHOTS = 4  # snapshots that lie on disk at a time, at most


@dataclass(frozen=True)
class Calibration:
    """What was measured here: seconds of a model call per latent frame in view, and bytes of memory in use."""

    seconds_per_column: float
    memory: int


def calibrate(rollout: Rollout) -> Calibration:
    """Run the first few model calls of a rollout, twice as many as are counted, and look at clock and memory."""
    started = None
    view = 1
    for event in rollout.run():
        if isinstance(event, Called):
            if started is None:
                started, view = time.perf_counter(), len(rollout.take.tape.rows)
            elif event.call >= 3 or event.call == event.calls:
                return Calibration((time.perf_counter() - started) / (event.call - 1) / view, memory())
        if isinstance(event, Frames | Ended) and started is not None:
            return Calibration((time.perf_counter() - started) / view, memory())
    return Calibration(0.0, memory())


def memory() -> int:
    """The most memory that this process has used, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def windows(settings: Settings, model: Model, frames: int) -> Iterator[Window]:
    """The windows of the first `frames` new output frames, one at a time."""
    for shot in Script.from_facts(settings.script).shots():
        count = frames - shot.first if shot.frames is None else min(shot.frames, frames - shot.first)
        if count > 0:
            yield from settings.make_plan().windows(count, model.codec.stride, model.limits)


def preview(settings: Settings, model: Model, speed: Calibration, console: Console, folder: Path) -> None:
    """Print the plan. SettingsError if the disk cannot hold the video."""
    model = settings.model_of(model)
    endless = settings.frames is None
    frames = settings.frames or settings.before + round(MINUTE * settings.fps)
    disk = _disk(model, frames, settings.fps)
    if not endless:
        _fits(disk, frames / settings.fps, folder)
    script = Script.from_facts(settings.script)
    _scenes(settings, model, script, console)
    if model.note:
        console.print(Text(model.note, "yellow"))
    if frames > 100 * MINUTE * settings.fps:
        console.print(f"plan {settings.plan}, about {size(disk)} of disk")
        return
    new = frames - settings.before
    total = _total(settings, model, new)
    console.print(_plan_line(settings, model, total, endless))
    console.print(_cost_line(total, speed, disk, new / settings.fps, endless))
    for window in islice(windows(settings, model, new), 1):
        for line in draw(list(panels(islice([window], 1), model.codec.stride)), model.codec.stride, console, most=14):
            console.print(line, no_wrap=True, overflow="ellipsis")
    for prompt in dict.fromkeys(scene.prompt for scene in script.scenes):
        if strange := model.text.unknown(prompt):
            console.print(Text(f"{model.name} does not know: {', '.join(strange)}. {model.vocabulary}", "yellow"))


def _total(settings: Settings, model: Model, frames: int) -> Cost:
    """What the windows take, in both passes where there are two; columns of the first are smaller."""
    first, refine = cost(windows(settings, model, frames)), model.refine
    if refine is None:
        return first
    then = cost(second(window, refine.levels) for window in windows(settings, model, frames))
    return replace(then, calls=first.calls + then.calls, columns=then.columns + first.columns // refine.scale**2)


def _scenes(settings: Settings, model: Model, script: Script, console: Console) -> None:
    height, width = model.size
    length = (
        "endless" if settings.frames is None else f"{settings.frames / settings.fps:g} s = {settings.frames} frames"
    )
    console.print(
        f"[bold]{model.name}[/] · {width} x {height} · {settings.fps:g} fps · {length} · seed {settings.seed}"
    )
    for kind, words in GIVEN.items():
        if kind in settings.given:
            console.print(Text(words.format(settings.before / settings.fps)))
    for scene, start in zip(script.scenes, script.starts):
        start += settings.before
        console.print(Text(f"{start / settings.fps:8.1f} s  {'✂ ' if scene.cut else ''}{scene.prompt}"))


def _plan_line(settings: Settings, model: Model, total: Cost, endless: bool) -> str:
    per = " per minute" if endless else ""
    tokens = f" ({total.view * model.tokens} tokens)" if model.tokens else ""
    takes = f"{total.takes} takes, " if total.takes > 1 else ""
    return (
        f"[bold]plan {settings.plan}[/]: {total.windows} windows, {takes}{total.calls} model calls{per} "
        f"of up to {total.view} latent frames{tokens}"
    )


def _cost_line(total: Cost, speed: Calibration, disk: int, seconds: float, endless: bool) -> str:
    per = " per minute" if endless else ""
    expected = total.columns * speed.seconds_per_column
    rate = f" ({seconds / expected:.1f} x real time)" if expected else ""
    return (
        f"expected here: about {duration(expected)}{per} for the model{rate}, {size(speed.memory)} of memory, "
        f"{size(disk)} of disk{per}"
    )


def _disk(model: Model, frames: int, fps: float) -> int:
    height, width = model.size
    return round(2 * frames * height * width * COMPRESSED / 8) + SNAPSHOTS * _snapshot(model)


def _snapshot(model: Model) -> int:
    """Bytes of a snapshot: the latents in view, those that the decoder replays, a few seconds of frames."""
    height, width = model.size
    latent = model.codec.channels * (height // model.codec.scale) * (width // model.codec.scale) * 4
    return (2 * model.limits.view + model.codec.reach) * latent + 48 * height * width * 3


def _fits(disk: int, seconds: float, folder: Path) -> None:
    near = folder
    while not near.exists():
        near = near.parent
    free = shutil.disk_usage(near).free
    if disk > free:
        raise SettingsError(
            f"{duration(seconds)} of video need about {size(disk)} of disk, but {size(free)} are free at {near}: "
            "make it shorter or choose another --output"
        )


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:,.0f} days"
