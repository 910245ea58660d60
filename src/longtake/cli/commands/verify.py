"""verify: compare every hash of a run directory, and regenerate one segment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from longtake.cli.completers import RunFolder


def verify(
    run: RunFolder,
    /,
    *,
    segment: int | None = None,
    regenerate: Annotated[bool, Parameter(negative="--no-regenerate")] = True,
) -> int:
    """Check every hash of a run, regenerate one of its segments and compare the bytes. Exit code 1 if any differ.

    Args:
        run: The run directory, or the video file beside it.
        segment: Number of the segment to regenerate (default: a random one).
        regenerate: Regenerate a segment, which needs the model.
    """
    from rich.console import Console

    from longtake.runs import verify as check
    from longtake.runs.target import expect_run
    from longtake.runs.video_run import reopen

    folder = expect_run(run)
    video = reopen(folder) if regenerate and not _inputs_damaged(folder) else None
    make, now = (video.generation, video.manifest) if video else (None, None)
    console, good = Console(highlight=False), True
    for finding in check(folder, make, segment, now):
        console.print(("[green]ok[/]  " if finding.passed else "[red]BAD[/] ") + finding.text, soft_wrap=True)
        good &= finding.passed
    return 0 if good else 1


def _inputs_damaged(folder: Path) -> bool:
    """Whether copies of the input files are damaged, so that no segment can be regenerated; the checks name them."""
    from longtake.runs import RunError, checked_inputs, input_facts, manifest_of

    try:
        checked_inputs(folder, input_facts(manifest_of(folder)))
    except RunError:
        return True
    return False
