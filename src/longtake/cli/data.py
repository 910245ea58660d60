"""data prepare: from a folder of videos to shots worth learning from."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longtake.data.prepare import PrepareError, Request, prepare
from longtake.data.report import Report
from longtake.data.sheet import write_sheet


def prepare_folder(folder: Path, out: Path, request: Request, sheet: bool) -> int:
    """Prepare, show the report, and say what comes next. 1 if a file could not be read, or nothing was kept."""
    console = Console(highlight=False)
    report = _watched(folder, out, request, console)
    if sheet:
        write_sheet(out / "sheet.png", folder, report)
    for line in report.lines():
        console.print(escape(line), soft_wrap=True)
    made = ["shots.jsonl", "dropped.jsonl", "report.txt", *(["sheet.png"] if sheet else [])]
    console.print(f"[dim]{escape(str(out))}: {', '.join(made)}[/]", soft_wrap=True)
    if not report.kept:
        console.print("nothing was kept: loosen the rules that the report names", soft_wrap=True)
    return 1 if report.errors or not report.kept else 0


def _watched(folder: Path, out: Path, request: Request, console: Console) -> Report:
    if not console.is_terminal:
        return prepare(folder, out, request, lambda done, of, line: print(f"[{done}/{of}] {line}", flush=True))
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("videos", total=None)
        return prepare(folder, out, request, lambda done, of, line: bar.update(task, total=of, completed=done))


def processes(jobs: int | None) -> int:
    """How many processes to use. PrepareError if it is none."""
    if jobs is not None:
        if jobs < 1:
            raise PrepareError(f"--jobs must be at least 1, not {jobs}")
        return jobs
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
