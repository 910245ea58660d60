"""Shared by all benchmarks: a description of the machine, a timer, a table, and a JSON line appended to results.jsonl."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from longtake import __version__

RESULTS = Path(__file__).parent / "results.jsonl"


def machine() -> dict[str, object]:
    """Return the processor, its cores, the GPU, and the version and instruction set of PyTorch."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def median_seconds(run: Callable[[], object], times: int = 7) -> float:
    """Return the median wall time of `run` in seconds, after one run to warm up."""
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def report(bench: str, rows: dict[str, tuple[float, str]], **facts: object) -> None:
    """Print a table of figures with their units and append them, with the machine, to results.jsonl."""
    here = machine()
    table = Table(title=f"{bench}: {here['cpu']}, {here['cores']} cores, torch {here['torch']} ({here['capability']})")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("unit")
    for what, (figure, unit) in rows.items():
        table.add_row(what, f"{figure:.4g}", unit)
    Console().print(table)
    line = {
        "bench": bench,
        "at": datetime.now(UTC).date().isoformat(),
        "longtake": __version__,
        "machine": here,
        **facts,
    }
    line["figures"] = {what: figure for what, (figure, _) in rows.items()}
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
