"""plan, models, doctor and train: what can be seen or started without making a video."""

from __future__ import annotations

import platform
import shutil
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from longtake.cli import flags
from longtake.cli.picture import Panel, panels
from longtake.plan import Window
from longtake.settings import SettingsError, default_threads

GOOD, BAD, MAYBE = "[green]ok[/]", "[red]no[/]", "[yellow]--[/]"
EXTRAS = {
    "transformers": "text and image encoders of released checkpoints: pip install transformers",
    "huggingface_hub": "checkpoints by their hub id: pip install huggingface_hub",
    "tensorboard": "training curves: pip install tensorboard",
}


def plans() -> int:
    """List the strategies."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, named in flags.strategies().items():
        table.add_row(f"[bold]{name}[/]", named.about)
    console = Console(highlight=False)
    console.print(table)
    console.print("\n[dim]longtake plan NAME draws it; options: longtake plan --help[/]")
    return 0


def show_plan(
    name: str, options: dict[str, Any], frames: int, stride: int, view: int, windows: int | None, png: Path | None
) -> int:
    """Draw a strategy in the terminal or into a file."""
    from longtake.cli.terminal import draw
    from longtake.plan import Limits, cost
    from longtake.plans import PLANS, plan

    if min(frames, stride, view - 1, windows or 1) < 1:
        raise SettingsError("frames, stride and windows must be at least 1, and view at least 2")
    beside = PLANS[name].defaults.get("beside", False)
    limits = Limits(view, context="beside" if beside else "in place")
    single = PLANS[name].defaults.get("single")
    if single:
        frames = min(frames, 1 + stride * (view - 1))
    strategy = plan(name, **options)
    count = windows or _screenful(strategy.windows(frames, stride, limits))
    found = list(panels(strategy.windows(frames, stride, limits), stride, count))
    total = cost(strategy.windows(frames, stride, limits))
    console = Console(highlight=False)
    if png:
        return _draw_png(found, stride, f"longtake plan {name}", png, console)
    console.print(f"[bold]{name}[/]: {flags.strategies()[name].about}")
    console.print(f"[dim]{frames} frames: {total.windows} windows, {total.takes} takes, {total.calls} model calls[/]\n")
    for line in draw(found, stride, console):
        console.print(line, no_wrap=True, overflow="crop")
    return 0


def _screenful(windows: Iterable[Window]) -> int:
    """How many windows make about 40 rows, three at least."""
    rows = 0
    for count, window in enumerate(windows, 1):
        rows += window.calls
        if rows >= 40 and count >= 3:
            return count
    return max(1, count)


def _draw_png(found: list[Panel], stride: int, title: str, path: Path, console: Console) -> int:
    from longtake.cli.png import draw

    draw(found, stride, title).save(path)
    console.print(f"{path}")
    return 0


def models() -> int:
    """List the built-in models and worlds."""
    import json

    from longtake.cli.weights import released
    from longtake.models import WORLDS, builtin

    table = Table(box=None, pad_edge=False)
    for column in ("model", "what", "size", "fps", "plan"):
        table.add_column(column)
    for name, folder in builtin().items():
        about = json.loads((folder / "longtake.json").read_text())
        size = f"{about['size'][1]}x{about['size'][0]}"
        table.add_row(
            f"[bold]{name}[/]",
            about.get("about", about["family"]),
            size,
            f"{about['fps']:g}",
            about.get("plan", "sliding"),
        )
    worlds = {
        "clock": "every frame shows its number, in black and white cells",
        "gauss": "noise with exactly known statistics",
    }
    for name in WORLDS:
        table.add_row(f"[bold]{name}[/]", f"a world with known answers: {worlds[name]}", "16x16", "24", "sliding")
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no edge
        console.width = 120
    console.print(table)
    console.print()
    console.print(released(console.width))
    console.print("\n[dim]or the folder of a checkpoint: longtake generate --model FOLDER; longtake inspect FOLDER[/]")
    return 0


def doctor() -> int:
    """Check this machine. Exit code 1 if something needed is missing."""
    console = Console(highlight=False)
    rows = [_python(), *_packages(), _processor(), _encoder(), _disk(), *_weights(), *_extras()]
    for mark, what in rows:
        console.print(f"{mark}  {what}", soft_wrap=True)
    return 1 if any(mark == BAD for mark, _ in rows) else 0


def _python() -> tuple[str, str]:
    good = sys.version_info >= (3, 11)
    return (GOOD if good else BAD), f"Python {platform.python_version()}" + (
        "" if good else ": 3.11 or newer is needed"
    )


def _packages() -> list[tuple[str, str]]:
    rows = []
    for name in ("torch", "numpy", "safetensors", "tokenizers", "av", "cyclopts", "rich", "pillow"):
        try:
            rows.append((GOOD, f"{name} {metadata.version(name)}"))
        except metadata.PackageNotFoundError:
            rows.append((BAD, f"{name} is missing: pip install -c constraints.txt -e ."))
    return rows


def _processor() -> tuple[str, str]:
    import torch

    what = f"{default_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    gpu = (
        f"; GPU {torch.cuda.get_device_name()}"
        if torch.cuda.is_available()
        else "; no GPU (none is needed for the built-in models)"
    )
    return GOOD, what + gpu


def _encoder() -> tuple[str, str]:
    import av

    good = "libx264" in av.codecs_available
    return (GOOD if good else BAD), "H.264 encoder" + (
        "" if good else " is missing from PyAV: pip install --force-reinstall av"
    )


def _disk() -> tuple[str, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return (GOOD if free > 1e9 else MAYBE), f"{free / 1e9:.1f} GB free here"


def _weights() -> list[tuple[str, str]]:
    from longtake.models import builtin, load

    rows = []
    for name in builtin():
        try:
            rows.append((GOOD, f"model {name}, weights {load(name).digest[:12]}"))
        except ValueError as error:
            rows.append((BAD, f"model {name}: {error}"))
    return rows or [(BAD, "no built-in model is in this package: install it again")]


def _extras() -> list[tuple[str, str]]:
    from longtake.data.shots import NEEDS

    finders = {module: f"data prepare --shots {name}: {install}" for name, (module, _, install) in NEEDS.items()}
    return [
        (GOOD, name) if util.find_spec(name) else (MAYBE, f"{name} is not installed; for {why}")
        for name, why in {**EXTRAS, **finders}.items()
    ]


def train(recipe: str, config: Path | None, output: Path | None, dry: bool = False) -> int:
    """Train, or say what it takes. SettingsError if the config cannot be read, or what is missing cannot be done without."""
    table: dict[str, Any] = {}
    if config is not None:
        try:
            table = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read {config}: {error}") from error
    if dry:
        return _rehearsed(recipe, table)
    if output is None:
        raise SettingsError("there is nowhere to write: give -o, a folder for checkpoints and logs")
    from longtake.train.loop import run

    run(recipe, table, output)
    return 0


def _rehearsed(recipe: str, table: dict[str, Any]) -> int:
    if recipe != "mixed":
        raise SettingsError(f"--dry-run is for the recipe mixed, not {recipe}: leave it out")
    from longtake.train.dry import dry_run

    for line in dry_run(table)[1]:
        print(line)
    return 0
