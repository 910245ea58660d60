"""The checks before a folder is used as a run directory."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from longtake.core.platform import problem_of_name
from longtake.pipelines.settings.request import Inputs
from longtake.runs.files import manifest as manifests
from longtake.runs.files.durable import TEMPORARY
from longtake.runs.files.errors import OPENING, RunError, explained, resume_command
from longtake.runs.files.layout import Layout, check_entries


def create_layout(folder: Path, fresh: bool = False) -> Layout:
    """Open a run directory, or create it if the folder is new or empty.

    fresh: refuse a folder that holds a run already. Raises RunError, also for folders with other files.
    """
    layout = check_output_folder(folder, fresh)
    with explained(folder, OPENING):
        for path in (folder, layout.media, layout.snapshots):
            path.mkdir(parents=True, exist_ok=True)
    return layout


def check_output_folder(folder: Path, fresh: bool = False) -> Layout:
    """Check a folder as `create_layout` does, without creating anything."""
    layout = Layout(folder)
    if problem := problem_of_name(folder):
        raise RunError(problem)
    check_entries(layout)
    with explained(folder, OPENING):
        if layout.manifest.exists():
            if fresh:
                _check_version(layout)
                raise RunError(
                    f"{folder} already holds a run: resume it with {resume_command(folder)}, "
                    "or choose another output folder"
                )
        elif layout.journal.exists():
            raise RunError(f"{folder} is a run without its run.json: put that file back, or choose another folder")
        elif folder.exists() and any(not _is_leftover(path) for path in folder.iterdir()):
            raise RunError(f"{folder} is not empty and is not a run: choose a new or empty output folder")
    return layout


def _check_version(layout: Layout) -> None:
    try:
        manifests.check_version(layout.manifest)
    except RunError as error:
        raise RunError(f"{error}, or choose another output folder") from error


def existing_layout(folder: Path) -> Layout:
    """Return the layout of a run directory; raises RunError if the folder is none."""
    layout = Layout(folder)
    check_entries(layout)
    if not layout.manifest.is_file():
        raise RunError(
            f"{folder} is not a run directory (it has no run.json): give the folder that `longtake generate` made"
        )
    return layout


def _is_leftover(path: Path) -> bool:
    """Whether a process that was killed before it wrote run.json may have left this path."""
    if path.name in ("media", "snapshots"):
        return path.is_dir() and not any(path.iterdir())
    if path.name == "job":  # of a job that waits in a queue
        return path.is_dir()
    if path.name == "inputs":
        kinds = {field.name for field in fields(Inputs)}
        return path.is_dir() and all(copy.name.split(".")[0] in kinds for copy in path.iterdir())
    return path.name in ("LOCK", "output.json") or path.name.endswith(TEMPORARY)
