"""generate, resume and verify: from a request to a reel."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from longtake.api import DEFAULT_SECONDS
from longtake.cli import flags
from longtake.cli.preview import Calibration, calibrate, preview
from longtake.cli.progress import Json, Lines, Live, Watcher
from longtake.cli.weights import announce
from longtake.models import load
from longtake.models.base import Model
from longtake.reel import Stopped, claim, describe, manifest_of, publish_so_far, record, repair, stoppable
from longtake.reel import verify as prove
from longtake.reel.manifest import Manifest
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

    def __post_init__(self):
        if (self.prompt is None) == (self.script is None):
            raise SettingsError("give either a prompt in quotes or --script FILE")
        if self.endless and self.seconds is not None:
            raise SettingsError("--endless has no --seconds: give one of them")
        if self.plan is not None:
            flags.known(self.plan, self.options)

    def settings(self, model: Model) -> Settings:
        """The request, resolved for a model."""
        flags.known(self.plan or model.plan, self.options)
        seconds = self.seconds
        if seconds is None and not self.endless and self.script is None:
            seconds = DEFAULT_SECONDS
        return Settings.resolve(
            model, self.script or self.prompt or "", seconds=seconds, endless=self.endless, plan=self.plan,
            options=self.options, fps=self.fps, seed=self.seed, guidance=self.guidance, negative=self.negative,
            solver=self.solver,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        """A folder named after the prompt."""
        words = re.findall(
            r"[a-z0-9]+", (self.prompt or self.script.stem if self.script else self.prompt or "").lower()
        )
        return Path("out") / f"{'-'.join(words)[:48].strip('-') or 'video'}-{self.seed}"


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
    model = load(request.model, offline=offline, announce=announce)
    settings = request.settings(model)
    folder = output or request.folder
    if not dry_run:
        claim(folder, fresh=True)
    console = Console(stderr=json, highlight=False)
    speed = calibrate(settings, model)
    preview(settings, model, speed, console, folder.parent if dry_run else folder)
    if dry_run:
        return 0
    return _record(settings, model, folder, console, speed, (), json)


def resume(folder: Path, *, allow: tuple[str, ...], repair: bool, json: bool) -> int:
    """Go on with a reel."""
    manifest = manifest_of(folder)
    torch.set_num_threads(manifest.threads)
    settings = Settings.from_facts(manifest.settings)
    model = load(settings.model)
    console = Console(stderr=json, highlight=False)
    if repair:
        _repair(folder, settings, model, console, allow)
    return _record(settings, model, folder, console, None, allow, json)


def verify(folder: Path, segment: int | None, remake: bool) -> int:
    """Print the proof."""
    manifest = manifest_of(folder)
    torch.set_num_threads(manifest.threads)
    settings = Settings.from_facts(manifest.settings)
    model = load(settings.model) if remake else None
    make = None if model is None else lambda: settings.rollout(model)
    now = None if model is None else _manifest(settings, model)
    console, good = Console(highlight=False), True
    for finding in prove(folder, make, segment, now):
        console.print(("[green]ok[/]  " if finding.fine else "[red]BAD[/] ") + finding.text, soft_wrap=True)
        good &= finding.fine
    return 0 if good else 1


def _record(
    settings: Settings,
    model: Model,
    folder: Path,
    console: Console,
    speed: Calibration | None,
    allow: tuple[str, ...],
    json: bool,
) -> int:
    watcher = _watcher(settings, folder, console, speed, json)
    events = record(settings.rollout(model), _manifest(settings, model), folder, allow=allow)
    try:
        with stoppable(), closing(events), watcher:
            for event in events:
                watcher.saw(event)
    except Stopped as stop:
        return _stopped(stop, settings, folder, watcher, console)
    return 0


def _stopped(stop: Stopped, settings: Settings, folder: Path, watcher: Watcher, console: Console) -> int:
    """Say what there is; what an endless run has made becomes a video."""
    published = publish_so_far(folder) if settings.frames is None else None
    watcher.stopped(folder, published)
    return stop.code


def _watcher(settings: Settings, folder: Path, console: Console, speed: Calibration | None, json: bool) -> Watcher:
    if json:
        return Json(sys.stdout)
    kind = Live if console.is_terminal else Lines
    return kind(console, settings, folder, speed)


def _repair(folder: Path, settings: Settings, model: Model, console: Console, allow: tuple[str, ...]) -> None:
    made: Iterator = repair(folder, _manifest(settings, model), lambda: settings.rollout(model), allow)
    for segment in made:
        console.print(f"made segment {segment.index} again")


def _manifest(settings: Settings, model: Model) -> Manifest:
    return describe(
        settings.facts(), seed=settings.seed, weights=model.digest, fps=settings.fps, size=model.size,
        frames=settings.frames, device=model.device,
    )  # fmt: skip
