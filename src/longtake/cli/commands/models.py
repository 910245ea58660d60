"""models: the built-in models and the released checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from longtake.cli.console import console_of
from longtake.core.units import pixels
from longtake.models.family import ReleasedCheckpoint

WIDE = 100  # characters from which the table of released checkpoints has a column for everything


def models() -> int:
    """List the built-in models, the toy models and the released checkpoints with their sizes and licences."""
    from longtake.models import builtin

    console = console_of()
    described = {
        name: json.loads((folder / "longtake.json").read_text(encoding="utf-8")) for name, folder in builtin().items()
    }
    console.print(_built_in(described))
    console.print()
    _print_released(console)
    console.print(f"\n[bold]Prompts for pocket[/]. {described['pocket']['vocabulary']}")
    console.print(
        "\n[dim]Or give the folder of a checkpoint: longtake generate --model FOLDER; longtake inspect FOLDER[/]"
    )
    return 0


def _built_in(described: dict[str, dict[str, object]]) -> Table:
    from longtake.models.registry import toy_families

    table = Table(box=None, pad_edge=False)
    for column in ("built in", "size", "fps", "strategy"):
        table.add_column(column, no_wrap=True)
    table.add_column("description")
    for name, about in described.items():
        size, strategy = pixels(about["size"]), str(about.get("strategy", "sliding"))  # type: ignore[arg-type]
        table.add_row(f"[bold]{name}[/]", size, f"{about['fps']:g}", strategy, str(about.get("about", about["family"])))
    for toy in toy_families():
        table.add_row(
            f"[bold]{toy.name}[/]", "16x16", "24", "sliding", f"test model without weights: {toy.description}"
        )
    return table


def _print_released(console: Console) -> None:
    """Print the presets; where the table is narrow, the licences follow it, and the stated peaks are left out."""
    from longtake.models.registry import presets

    found = presets().values()
    console.print(_released(found, console.width))
    if console.width < WIDE:
        console.print(f"[dim]licences: {_licences(found)}[/]")


def _released(found: Iterable[ReleasedCheckpoint], width: int) -> Table:
    """Return the presets, with the memory that their weights take and that their specification states."""
    table = Table(box=None, pad_edge=False)
    columns = ("released", "kind", "size", "frames", "weights", "memory", "stated peak", "licence")
    shown = columns if width >= WIDE else columns[:-2]
    for column in shown:
        table.add_column(column, justify="right" if column in columns[4:7] else "left", no_wrap=column != "licence")
    for one in found:
        cells = (
            f"[bold]{one.name}[/]",
            one.kind,
            pixels(one.size),
            f"{one.frames} at {one.fps:g}",
            f"{one.parameters / 1e9:.2f} B",
            f"{sum(one.gigabytes().values()):.1f} GB",
            f"{one.requested_gb:g} GB" if one.requested_gb else "",
            one.licence or "none published",
        )
        table.add_row(*cells[: len(shown)])
    return table


def _licences(found: Iterable[ReleasedCheckpoint]) -> str:
    """Return every licence with the beginnings of the names under it."""
    under: dict[str, dict[str, None]] = {}
    for one in found:
        start = f"{one.name.split('-')[0]}-*" if one.licence else one.name
        under.setdefault(one.licence or "none published", {})[start] = None
    return "; ".join(f"{licence}: {', '.join(names)}" for licence, names in under.items())
