"""clean: list old runs and snapshots, and remove those that are no longer wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from longtake.core.errors import SettingsError
from longtake.core.platform import cache_folder
from longtake.core.units import duration, parse_bytes, parse_duration, plural, size
from longtake.runs.cleaning import Choice, State, Usage, find_runs, remove

SHOWN = 40  # runs that are listed


def clean(
    folder: Path | None = None,
    /,
    *,
    older_than: str | None = None,
    larger_than: str | None = None,
    keep_last: int | None = None,
    snapshots: bool = False,
    unfinished: bool = False,
    deleted: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
) -> int:
    """List the runs in a folder and the disk that they take, and remove those that are chosen, after asking.

    A run that is being generated is never removed, nor is a file that longtake did not write. A video file beside its run
    directory stays.

    Args:
        folder: Folder that is searched, with the folders in it (default: out, and the runs of --no-keep in the cache).
        older_than: Choose runs that were last written longer ago than this, such as 30d, 12h or 2w.
        larger_than: Choose runs of more bytes than this, such as 2GB or 500MB.
        keep_last: Choose all runs but the newest, as many as this.
        snapshots: Remove only the snapshots of the chosen runs; their videos stay and can be verified, more slowly.
        unfinished: Choose runs that are not finished too, which could still be resumed.
        deleted: Choose the videos that were deleted over HTTP, which `longtake serve` moved to its trash.
        yes: Remove without asking.
    """
    choice = Choice(
        None if older_than is None else parse_duration(older_than, "--older-than"),
        None if larger_than is None else parse_bytes(larger_than, "--larger-than"),
        _count(keep_last),
        unfinished,
        deleted,
    )
    if yes and not choice.chooses:
        raise SettingsError("--yes removes what is chosen: add --older-than, --larger-than, --keep-last or --deleted")
    if snapshots and unfinished:
        raise SettingsError(
            "an unfinished run is resumed from its snapshots: give --snapshots or --unfinished, not both"
        )
    console = Console(highlight=False)
    found = [one for place in _places(folder) for one in find_runs(place)]
    chosen = choice.of(found) if choice.chooses else []
    if snapshots:
        chosen = [one for one in chosen if one.snapshots]
    if folder is None:
        console.print(f"runs in {escape(' and '.join(map(str, _places(None))))}; name another folder to search it\n")
    _list(chosen if choice.chooses else found, console, snapshots)
    if not choice.chooses:
        _explain(found, console)
        return 0
    return _remove(chosen, snapshots, yes, console) if chosen else 0


def _count(keep_last: int | None) -> int:
    if keep_last is not None and keep_last < 1:
        raise SettingsError(
            f"--keep-last must be at least 1, not {keep_last}: to choose every run, use --older-than 0s"
        )
    return keep_last or 0


def _places(folder: Path | None) -> list[Path]:
    """Return the folders to search. SettingsError if there is none."""
    if folder is not None:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder}: give the folder that holds the runs")
        return [folder]
    places = [place for place in (Path("out"), cache_folder() / "runs") if place.is_dir()]
    if not places:
        raise SettingsError("there is no folder out here: give the folder that holds the runs")
    return places


def _list(usages: Sequence[Usage], console: Console, snapshots: bool) -> None:
    """Print the runs, oldest first, with their age, their size and what becomes of the video."""
    if not usages:
        console.print("there is no such run")
        return
    table, now = Table(box=None, pad_edge=False), time.time()
    for name in ("run", "last written", "frees", "snapshots", "state", "its video"):
        number = name in ("last written", "frees", "snapshots")
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number)
    ordered = sorted(usages, key=lambda one: one.changed)
    for one in ordered[:SHOWN]:
        video = "stays" if snapshots else "goes too" if one.kept_at is None else f"stays, {one.kept_at}"
        age = f"{duration(max(0.0, now - one.changed))} ago"
        free = size(one.snapshots if snapshots else one.everything)
        table.add_row(escape(str(one.folder)), age, free, size(one.snapshots), one.state.value, escape(video))
    console.print(table)
    if len(ordered) > SHOWN:
        console.print(f"and {plural(len(ordered) - SHOWN, 'newer run')}")


def _explain(found: Sequence[Usage], console: Console) -> None:
    """Say what could be freed, and how."""
    done = [one for one in found if one.state is State.FINISHED]
    if not done:
        return
    console.print(
        f"\n{plural(len(done), 'finished run')}: {size(sum(one.everything for one in done))}, of which "
        f"{size(sum(one.snapshots for one in done))} are snapshots, which only `longtake verify` reads. Nothing was removed: "
        "choose with --older-than 30d, --larger-than 2GB or --keep-last 10, and add --snapshots to remove only those.",
        soft_wrap=True,
    )  # fmt: skip


def _remove(chosen: Sequence[Usage], snapshots: bool, yes: bool, console: Console) -> int:
    """Ask, then remove; return 1 if anything was left."""
    free = size(sum(one.snapshots if snapshots else one.everything for one in chosen))
    what = f"the snapshots of {plural(len(chosen), 'run')}" if snapshots else plural(len(chosen), "run")
    if not yes and not _agreed(f"\nRemove {what} and free {free}? [y/N] ", console):
        return 0
    left = 0
    for one, remark in remove(chosen, snapshots):
        left += remark.startswith("left alone")
        if remark:
            console.print(f"{escape(str(one.folder))}: {escape(remark)}", soft_wrap=True)
    console.print(f"removed {what if not left else plural(len(chosen) - left, 'run')}")
    return 1 if left else 0


def _agreed(question: str, console: Console) -> bool:
    """Ask the user. SettingsError where nobody can answer."""
    if not sys.stdin or not sys.stdin.isatty():
        raise SettingsError("nothing was removed, because nobody can answer here: add --yes to remove what is listed")
    console.print(escape(question), end="", soft_wrap=True)
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False
