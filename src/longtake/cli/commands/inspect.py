"""inspect: describe a checkpoint before it is loaded, or the settings that a video file carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from longtake.cli.completers import PRESET
from longtake.media.metadata import IMAGES, VIDEOS


def inspect(
    path: Path, /, *, preset: Annotated[str | None, PRESET] = None, format: Literal["text", "json"] = "text"
) -> int:
    """Describe a checkpoint from the headers of its files, or a video by the settings that it carries.

    Exit code 1 if the checkpoint cannot be opened as it is, or if the file carries no settings that can be used.

    Args:
        path: A folder (diffusers, SkyReels-V2 or Wan layout), a safetensors file, or a .toml list of files; or a video or
            an image, also of another tool; or a run directory, for its video.mp4.
        preset: Name of the released checkpoint, if the files do not identify it.
        format: text, or json for the report as one object.
    """
    if (path / "run.json").is_file():
        path = path / "video.mp4"
    if path.suffix.lower() in VIDEOS + IMAGES:
        from longtake.pipelines.carried.file_report import file_report

        found = file_report(path)
        good, lines, facts = found.found, found.lines, found.facts
    else:
        from longtake.models.registry import inspect
        from longtake.models.registry import preset as preset_named

        report = inspect(path, preset_named(preset) if preset else None)
        last = "complete: it can be opened" if report.complete else "not complete: it cannot be opened as it is"
        good, facts = report.complete, report.facts

        def lines() -> list[str]:
            """Return the report of a checkpoint."""
            return [*report.lines(), last]

    print(json.dumps(facts()) if format == "json" else "\n".join(lines()))
    return 0 if good else 1
