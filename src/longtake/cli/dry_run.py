"""The plan of a run and its cost on this machine: scenes, windows, model calls, time, memory and disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from longtake.cli.plan_drawing.diagram import panels
from longtake.cli.plan_drawing.terminal import draw
from longtake.cli.planned_windows import MOST_COUNTED, windows
from longtake.core.errors import SettingsError
from longtake.core.platform import peak_memory
from longtake.core.units import duration, pixels, plural, size, speed_in_words
from longtake.engine.events import Frames, StepDone, WindowDone
from longtake.engine.rollout import Rollout
from longtake.models.model import Model
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.cost import Cost, cost
from longtake.planning.script import Script
from longtake.planning.second_pass import second_pass_window
from longtake.planning.shots import ShotPlanner

MINUTE = 60.0
COMPRESSED = 0.25  # bits per pixel of the encoded video, an upper estimate; segments and video.mp4 take it twice
INPUTS = {
    "video": "     0.0 s  the video to continue, {:.4g} s",
    "image": "     0.0 s  starts with the image",
    "last_image": "   the end  ends with the last image",
}
SNAPSHOTS = 4  # the most snapshots that are on disk at a time


@dataclass(frozen=True)
class Calibration:
    """The measured cost of a model call: seconds per latent frame in view, and bytes of memory in use."""

    seconds_per_column: float
    memory: int


def calibrate(rollout: Rollout) -> Calibration:
    """Run the first few steps of a rollout, twice as many as are counted, and measure time and memory at full size."""
    last, measured, started, view = len(rollout.clip.stages) - 1, 0, 0.0, 1
    for event in rollout.run():
        if isinstance(event, StepDone) and event.stage == last:
            if not started:
                started, view = time.perf_counter(), len(rollout.clip.latents.frames)
                continue
            measured += 1
            if measured == 2 or event.step == event.steps:
                return Calibration((time.perf_counter() - started) / measured / view, peak_memory())
        if isinstance(event, Frames | WindowDone) and started:
            return Calibration((time.perf_counter() - started) / view, peak_memory())
    return Calibration(0.0, peak_memory())


def preview(
    settings: RunSettings, model: Model, planner: ShotPlanner, speed: Calibration, console: Console, folder: Path,
    *, drawn: bool,
) -> None:  # fmt: skip
    """Print the plan of a rollout's planner and its cost. SettingsError if the disk cannot hold the video.

    drawn: with the prompt of a single scene and the picture of the first window.
    """
    model = settings.video_model(model)
    endless = settings.frames is None
    frames = settings.frames or settings.before + round(MINUTE * settings.fps)
    disk = _disk(model, frames, settings.fps)
    if not endless:
        _fits(disk, frames / settings.fps, folder)
    script = Script.from_facts(settings.script)
    _scenes(settings, model, script, console, drawn or len(script.scenes) > 1)
    if model.info.note:
        console.print(Text(model.info.note, "yellow"))
    if frames > MOST_COUNTED * settings.fps:
        console.print(f"strategy {settings.strategy}, about {size(disk)} of disk")
        return
    new = frames - settings.before
    total = _total(model, planner, new)
    console.print(_plan_line(settings, model, total, endless, drawn))
    console.print(_cost_line(total, speed, disk, new / settings.fps, endless))
    for window in islice(windows(planner, new), 1 if drawn else 0):
        for line in draw(
            list(panels(islice([window], 1), model.vae.temporal_compression)),
            model.vae.temporal_compression,
            console,
            most=14,
        ):
            console.print(line, no_wrap=True, overflow="ellipsis")


def _total(model: Model, planner: ShotPlanner, frames: int) -> Cost:
    """Add up the windows of one or two stages; the latent frames of a first stage are smaller."""
    first, stage = cost(windows(planner, frames)), model.second_stage
    if stage is None:
        return first
    then = cost(second_pass_window(window, stage.sigmas) for window in windows(planner, frames))
    return replace(then, steps=first.steps + then.steps, columns=then.columns + first.columns // stage.scale**2)


def _scenes(settings: RunSettings, model: Model, script: Script, console: Console, listed: bool) -> None:
    """Print the format of the video and its inputs; listed: the prompt of every scene too."""
    length = (
        "endless" if settings.frames is None else f"{settings.frames / settings.fps:.4g} s = {settings.frames} frames"
    )
    console.print(
        f"[bold]{model.name}[/] · {pixels(model.size)} · {settings.fps:g} fps · {length} · seed {settings.seed}"
    )
    for kind, words in INPUTS.items():
        if kind in settings.inputs:
            console.print(Text(words.format(settings.before / settings.fps)))
    for scene, start in zip(script.scenes, script.starts) if listed else ():
        start += settings.before
        console.print(Text(f"{start / settings.fps:8.1f} s  {'✂ ' if scene.cut else ''}{scene.prompt}"))


def _plan_line(settings: RunSettings, model: Model, total: Cost, endless: bool, with_tokens: bool) -> str:
    shown = with_tokens and model.format.tokens_per_frame
    per = " per minute" if endless else ""
    tokens = f" ({total.widest * model.format.tokens_per_frame} tokens)" if shown else ""
    clips = f"{total.clips} clips, " if total.clips > 1 else ""
    return (
        f"[bold]strategy {settings.strategy}[/]: {plural(total.windows, 'window')}, {clips}{total.steps} model calls{per} "
        f"of up to {total.widest} latent frames{tokens}"
    )


def _cost_line(total: Cost, speed: Calibration, disk: int, seconds: float, endless: bool) -> str:
    per = " per minute" if endless else ""
    expected = total.columns * speed.seconds_per_column
    rate = f" ({speed_in_words(seconds, expected)})" if expected else ""
    return (
        f"expected here: about {duration(expected)}{per} for the model{rate}\n"
        f"               {size(speed.memory)} of memory, {size(disk)} of disk{per}"
    )


def _disk(model: Model, frames: int, fps: float) -> int:
    height, width = model.size
    return round(2 * frames * height * width * COMPRESSED / 8) + SNAPSHOTS * _snapshot(model)


def _snapshot(model: Model) -> int:
    """Return the bytes of a snapshot: the latents in view, those that the decoder replays, and a few seconds of frames."""
    height, width = model.size
    latent = (
        model.vae.channels * (height // model.vae.spatial_compression) * (width // model.vae.spatial_compression) * 4
    )
    return (2 * model.limits.max_latent_frames + model.vae.replay_latents) * latent + 48 * height * width * 3


def _fits(disk: int, seconds: float, folder: Path) -> None:
    near = folder
    while not near.exists():
        near = near.parent
    free = shutil.disk_usage(near).free
    if disk > free:
        raise SettingsError(
            f"{duration(seconds)} of video need about {size(disk)} of disk, but {size(free)} are free at {near}: "
            "ask for a shorter video or choose another --output"
        )
