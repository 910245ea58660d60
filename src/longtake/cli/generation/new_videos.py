"""New videos: what a command line asks for, announced at once and then generated. Nothing here needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from longtake.cli.console import console_of
from longtake.cli.flags.video import VideoOrder
from longtake.cli.generation.announcement import announce
from longtake.core.errors import InputError
from longtake.core.files import problem_of, read_text
from longtake.models.locate import locate
from longtake.models.registry import toy_families
from longtake.pipelines.settings.request import Request
from longtake.planning.script_files import MOST_BYTES, read_script_file
from longtake.runs.claim import Claim, claim, set_aside
from longtake.runs.files.output_record import OutputRecord
from longtake.runs.slugs import slug
from longtake.runs.target import Target, is_other_folder, target_of


def make_videos(order: VideoOrder) -> int:
    """Say what is made and where, then generate and record it; return the exit code."""
    console = console_of(order.show.json)
    _check(order)
    name, wanted = _names(order), _records(order)
    if order.show.dry_run:
        announce(order, name(1), [], console)
        from longtake.cli.generation.generate_videos import show_plan

        return show_plan(order, name(1), console)
    claims = _claimed(order, name, wanted)
    try:
        announce(order, name(1), claims, console)
        from longtake.cli.generation.generate_videos import generate_videos

        return generate_videos(order, claims, console)
    finally:
        for one in claims:
            one.release()


def _check(order: VideoOrder) -> None:
    """Raise an InputError for a model, a script or an input file that does not exist, before anything is loaded."""
    if order.command.model not in [family.name for family in toy_families()]:
        locate(order.command.model)
    request = order.requests[0]
    if isinstance(request.script, Path):
        read_script_file(request.script)
    for path in request.inputs.files.values():
        if problem := problem_of(path):
            raise InputError(f"{path} cannot be read: {problem}")


def _names(order: VideoOrder) -> Callable[[int], Target]:
    """Return the target of each number: counted names for several videos and where no name is given."""
    output, several = order.output.output, len(order.requests) > 1
    keep, as_file = not order.output.no_keep, order.output.as_file
    if output is not None and is_other_folder(output):
        output, several = output / _title(order.requests[0]), True
    base = target_of(output or Path("out") / _title(order.requests[0]), keep, as_file)
    if several or output is None:
        return lambda number: base.named(f"-{number:03d}", keep)
    return lambda number: base if number == 1 else base.named(f"-{number}", keep)


def _title(request: Request) -> str:
    return slug(request.script.stem if isinstance(request.script, Path) else request.heading)


def _records(order: VideoOrder) -> list[OutputRecord]:
    """Return what output.json will say of each video, but for the path of its file."""
    path, like, seed = order.command.script, order.command.like, order.command.seed
    script = "" if path is None else hashlib.sha256(read_text(path, MOST_BYTES).encode()).hexdigest()
    script += "" if like is None else _sha256(like)
    drawn = seed in ("random", -1)
    return [
        OutputRecord(
            (*order.words, f"--seed={'random' if drawn else request.sampling.seed}"), script, request.sampling.seed
        )
        for request in order.requests
    ]


def _claimed(order: VideoOrder, name: Callable[[int], Target], wanted: Sequence[OutputRecord]) -> list[Claim]:
    output = order.output
    records = [replace(one, finished=output.finished(name(1).file)) for one in wanted]
    old = _set_aside(order, [name(1 + i) for i in range(len(records))]) if output.overwrite else {}
    try:
        anew = output.output is None or wanted[0].draws_seed
        claims = claim(name, records, anew=anew, replace_file=output.overwrite)
    except BaseException:
        for folder, aside in old.items():
            aside.rename(folder)
        raise
    for one in claims:
        one.replaced = old.get(one.target.folder)
    return claims


def _set_aside(order: VideoOrder, targets: Sequence[Target]) -> dict[Path, Path]:
    """Rename the runs that are overwritten, and return their new paths by the old ones."""
    like = [] if order.command.like is None else [order.command.like]
    inputs = [path.absolute() for path in (*order.requests[0].inputs.files.values(), *like)]
    for target in targets:
        if any(target.folder.absolute() in path.parents for path in inputs):
            raise InputError(
                f"{target.folder} holds an input of this video, so it is not overwritten: name another --output"
            )
    found = {target.folder: set_aside(target) for target in targets}
    return {folder: aside for folder, aside in found.items() if aside is not None}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
