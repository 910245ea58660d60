"""data prepare: from a folder of videos to shots for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longtake.cli.flags.options import explicit_options, flags_of
from longtake.core.errors import SettingsError
from longtake.data.rules import Rules

if TYPE_CHECKING:
    from longtake.data.prepare import Request
    from longtake.data.report import Report

RuleFlags = flags_of(Rules)


def prepare(
    folder: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    shots: Literal["adaptive", "transnet", "none"] = "adaptive",
    captions: Path | None = None,
    encoding: str = "utf-8",
    captioner: str = "none",
    max_seconds: float = 60.0,
    text: str | None = None,
    jobs: int | None = None,
    sheet: Annotated[bool, Parameter(negative="--no-sheet")] = True,
    rules: RuleFlags = None,  # type: ignore[valid-type]
) -> int:
    """Find the shots in a folder of videos, keep those fit for training, and report why others were dropped.

    The command can be stopped at any time; the same command resumes it. After a changed limit or caption it takes
    seconds, because videos that were analysed are not read again.

    Args:
        folder: Folder of videos, subfolders included; captions in a .txt next to each, or in one .csv or .jsonl table.
        output: Folder for the list of shots (shots.jsonl), the report and what a resume needs.
        shots: Detector of cuts: adaptive (PySceneDetect), transnet (TransNetV2, detects dissolves too) or none.
        captions: Table of captions, if it is not the only one in the folder.
        encoding: Encoding of captions that are not UTF-8.
        captioner: Source of missing captions: none, filename, the name of a plug-in, or module:function.
        max_seconds: Maximum length in seconds; a longer shot is divided.
        text: Detector of text in frames, as module:function (none is built in).
        jobs: Number of videos read in parallel (default: one per CPU core).
        sheet: Draw a contact sheet.
    """
    from longtake.data.prepare import Request

    request = Request(
        Rules(**explicit_options(rules)), shots, max_seconds, captions, encoding, captioner, text, _processes(jobs)
    )
    return _prepare(folder, output, request, sheet)


def _prepare(folder: Path, out: Path, request: Request, sheet: bool) -> int:
    """Prepare and print the report. Exit code 1 if a file could not be read, or nothing was kept."""
    from longtake.data.contact_sheet import write_sheet

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
    from longtake.data.prepare import prepare

    if not console.is_terminal:
        return prepare(folder, out, request, lambda done, of, line: print(f"[{done}/{of}] {line}", flush=True))
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("videos", total=None)
        return prepare(folder, out, request, lambda done, of, line: bar.update(task, total=of, completed=done))


def _processes(jobs: int | None) -> int:
    """Return the number of processes. SettingsError if it is below 1."""
    if jobs is not None:
        if jobs < 1:
            raise SettingsError(f"--jobs must be at least 1, not {jobs}")
        return jobs
    from longtake.pipelines.settings.threads import available_cpus

    return available_cpus()
