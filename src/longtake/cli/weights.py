"""inspect, convert, and the released checkpoints: what is known of weights before they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from longtake.models.hub import Offer
from longtake.models.presets import PRESETS, Released, preset


def inspect(path: Path, name: str | None, as_json: bool) -> int:
    """Print what a checkpoint is. Exit code 1 if it cannot be opened as it is."""
    from longtake.models.inspect import inspect

    report = inspect(path, preset(name) if name else None)
    if as_json:
        print(json.dumps(report.facts()))
    else:
        for line in report.lines():
            print(line)
        print("complete: it can be opened" if report.complete else "not complete: it cannot be opened as it is")
    return 0 if report.complete else 1


def convert(path: Path, out: Path | None) -> int:
    """Convert pickles and print their hashes."""
    from longtake.models.convert import convert

    for made in convert(path, out):
        print(f"{made.source}: SHA-256 {made.sha256}")
        print(f"{made.file}: {made.tensors} tensors")
    return 0


def released(width: int = 110) -> Table:
    """The presets, with the memory that their weights take; a narrow table leaves the last two columns out."""
    table = Table(box=None, pad_edge=False)
    columns = ("released", "kind", "size", "frames", "weights", "in memory", "asked for", "licence")
    shown = columns if width >= 100 else columns[:-2]
    for column in shown:
        table.add_column(column, justify="right" if column in columns[4:7] else "left", no_wrap=column != "licence")
    for found in PRESETS.values():
        cells = (
            f"[bold]{found.name}[/]",
            found.kind,
            f"{found.size[1]}x{found.size[0]}",
            f"{found.frames} at {found.fps:g}",
            f"{found.parameters / 1e9:.2f} B",
            f"{sum(found.gigabytes().values()):.1f} GB",
            f"{found.requested_gb:g} GB" if found.requested_gb else "",
            found.licence or "none published",
        )
        table.add_row(*cells[: len(shown)])
    return table


def announce(offer: Offer) -> None:
    """Say what will be downloaded, before it is."""
    known = next((p for p in PRESETS.values() if p.hub == offer.repo), None)
    Console(stderr=True, highlight=False).print(escape(_words(offer, known)), soft_wrap=True)


def _words(offer: Offer, known: Released | None) -> str:
    parts = known.gigabytes() if known else {}
    memory = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    return (
        f"{offer.repo} at {offer.revision[:12]}: {offer.bytes / 1e9:.1f} GB in {offer.files} files, licence "
        f"{offer.licence}" + (f"; weights in memory: {sum(parts.values()):.1f} GB ({memory})" if parts else "")
    )
