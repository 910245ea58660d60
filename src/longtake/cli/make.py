"""generate, extend, resume and verify: from a request to a reel."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from longtake import adapters
from longtake.api import DEFAULT_SECONDS
from longtake.cli import flags
from longtake.cli.preview import Calibration, calibrate, preview
from longtake.cli.progress import Json, Lines, Live, Watcher
from longtake.cli.weights import announce
from longtake.given import KINDS, Given, Making
from longtake.models import load
from longtake.models.base import Model
from longtake.models.place import Place
from longtake.reel import (
    ReelError,
    Stopped,
    describe,
    kept,
    manifest_of,
    publish_so_far,
    record,
    repair,
    stoppable,
    vacant,
)
from longtake.reel import verify as prove
from longtake.reel.manifest import Manifest
from longtake.script import beginning
from longtake.settings import Settings, SettingsError, default_threads


@dataclass(frozen=True)
class Request:
    """What the user asked for; None is what suits the model."""

    prompt: str | None
    script: Path | None
    seconds: float | None
    endless: bool
    model: str
    plan: str | None
    options: dict[str, Any]
    seed: int
    fps: float | None
    guidance: float | None
    negative: str | None
    solver: str | None
    size: tuple[int, int] | None = None
    image: Path | None = None
    end_image: Path | None = None
    video: Path | None = None
    track: Path | None = None
    track_scale: float = 1.0
    loras: tuple[str, ...] = ()
    place: Place = field(default_factory=lambda: Place("cpu"))

    def __post_init__(self):
        if (self.prompt is None) == (self.script is None):
            raise SettingsError("give either a prompt in quotes or --script FILE")
        if self.endless and self.seconds is not None:
            raise SettingsError("--endless has no --seconds: give one of them")
        if self.plan is not None:
            flags.known(self.plan, self.options)

    @cached_property
    def given(self) -> Given:
        """What the video begins with, comes to, or goes on from."""
        begins = beginning(self.script) if self.image is None and self.video is None else self.image
        return Given(begins, self.end_image, self.video, self.track)

    def settings(self, model: Model) -> Settings:
        """The request, resolved for a model."""
        flags.known(self.plan or model.plan, self.options)
        seconds = self.seconds
        if seconds is None and not self.endless and self.script is None:
            seconds = DEFAULT_SECONDS
        return Settings.resolve(
            model, self.script or self.prompt or "", seconds=seconds, endless=self.endless, plan=self.plan,
            options=self.options, fps=self.fps, seed=self.seed, guidance=self.guidance, negative=self.negative,
            solver=self.solver, size=self.size, given=self.given, loras=[adapters.written(text) for text in self.loras],
            place=self.place.facts(), track_scale=self.track_scale,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        """A folder named after the prompt."""
        words = re.findall(
            r"[a-z0-9]+", (self.prompt or self.script.stem if self.script else self.prompt or "").lower()
        )
        return Path("out") / f"{'-'.join(words)[:48].strip('-') or 'video'}-{self.seed}"


def size_of(text: str | None) -> tuple[int, int] | None:
    """(height, width) of what was written as 544x960. SettingsError if it is something else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text.strip())
    if not match:
        raise SettingsError(f"--size is HEIGHTxWIDTH in pixels, such as 544x960, not {text!r}")
    return int(match[1]), int(match[2])


def generate(
    request: Request,
    output: Path | None,
    *,
    threads: int | None,
    dry_run: bool,
    json: bool,
    offline: bool = False,
) -> int:
    """Show the plan, then make the video."""
    if threads is not None and threads < 1:
        raise SettingsError(f"--threads must be at least 1, not {threads}")
    torch.set_num_threads(threads or default_threads())
    model = load(request.model, offline=offline, announce=announce, placing=request.place)
    settings = request.settings(model)
    folder = output or request.folder
    if not dry_run:
        vacant(folder, fresh=True)
    run = Run(settings, model, request.given, folder)
    console = Console(stderr=json, highlight=False)
    if request.video is not None and beginning(request.script):
        console.print("the script's image is left out: this goes on from a video")
    speed = calibrate(settings.new_part(model, request.given))
    preview(run.settings, run.model, speed, console, folder.parent if dry_run else folder)
    if dry_run:
        return 0
    return _record(run, console, speed, (), json)


def resume(
    folder: Path, *, allow: tuple[str, ...], repair: bool, json: bool, device: str | None, offload: str | None
) -> int:
    """Go on with a reel."""
    run = _opened(folder, device, offload)
    console = Console(stderr=json, highlight=False)
    if repair:
        _repair(run, console, allow)
    return _record(run, console, None, allow, json)


def verify(folder: Path, segment: int | None, remake: bool) -> int:
    """Print the proof."""
    run = _opened(folder) if remake and not _given_fault(folder) else None
    make, now = (run.making, run.manifest) if run else (None, None)
    console, good = Console(highlight=False), True
    for finding in prove(folder, make, segment, now):
        console.print(("[green]ok[/]  " if finding.fine else "[red]BAD[/] ") + finding.text, soft_wrap=True)
        good &= finding.fine
    return 0 if good else 1


@dataclass(frozen=True)
class Run:
    """A video that is made in a folder. given: where the settings tell of it, the files themselves."""

    settings: Settings
    model: Model
    given: Given
    folder: Path

    def making(self) -> Making:
        """A new rollout."""
        return self.settings.rollout(self.model, self.given)

    @property
    def manifest(self) -> Manifest:
        """What its reel is."""
        settings = self.settings
        return describe(
            settings.facts(), seed=settings.seed, weights=self.model.digest, fps=settings.fps,
            size=settings.model_of(self.model).size, frames=settings.frames, device=self.model.device,
        )  # fmt: skip


def _opened(folder: Path, device: str | None = None, offload: str | None = None) -> Run:
    """The run that made a reel, from what the reel says of itself; device and offload may be others now."""
    manifest = manifest_of(folder)
    torch.set_num_threads(manifest.threads)
    settings = Settings.from_facts(manifest.settings)
    adapters.same(settings.loras)
    copies = kept(folder, settings.given)
    place = Place(**{"device": "cpu", **settings.place})
    place = replace(place, device=device or place.device, offload=offload or place.offload)
    return Run(settings, load(settings.model, placing=place), Given(*(copies.get(kind) for kind in KINDS)), folder)


def _given_fault(folder: Path) -> bool:
    """Whether copies of what was given are damaged, so that nothing can be made again; `prove` says which."""
    try:
        kept(folder, manifest_of(folder).settings.get("given", {}))
    except ReelError:
        return True
    return False


def _record(run: Run, console: Console, speed: Calibration | None, allow: tuple[str, ...], json: bool) -> int:
    watcher = _watcher(run, console, speed, json)
    events = record(run.making(), run.manifest, run.folder, allow=allow, given=run.given.files)
    try:
        with stoppable(), closing(events), watcher:
            for event in events:
                watcher.saw(event)
    except Stopped as stop:
        return _stopped(stop, run, watcher)
    return 0


def _stopped(stop: Stopped, run: Run, watcher: Watcher) -> int:
    """Say what there is; what an endless run has made becomes a video."""
    published = publish_so_far(run.folder) if run.settings.frames is None else None
    watcher.stopped(run.folder, published)
    return stop.code


def _watcher(run: Run, console: Console, speed: Calibration | None, json: bool) -> Watcher:
    if json:
        return Json(sys.stdout)
    kind = Live if console.is_terminal else Lines
    return kind(console, run.settings, run.folder, speed)


def _repair(run: Run, console: Console, allow: tuple[str, ...]) -> None:
    made: Iterator = repair(run.folder, run.manifest, run.making, allow)
    for segment in made:
        console.print(f"made segment {segment.index} again")
