"""Signs that a journal lost lines, or that run.json is not as the run wrote it: media, snapshots and playlist tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from longtake.core.units import plural
from longtake.runs.files import journal, snapshots
from longtake.runs.files import manifest as manifests
from longtake.runs.files.errors import RunError, resume_command
from longtake.runs.files.layout import Layout

RUN_JSON = "run.json"  # the name with which --allow lets an altered run.json pass


@dataclass(frozen=True)
class Claim:
    """Something in the folder that shows that `segments` segments were durable. text: what it is."""

    segments: int
    text: str


def check_journal(layout: Layout, segments: int) -> None:
    """Raise RunError if the journal lost lines of segments that were durable. segments: those that it names."""
    for claim in claims(layout):
        if claim.segments > segments:
            raise RunError(
                f"{layout.journal} names {plural(segments, 'segment')}, but {claim.text}: put the journal back, or generate "
                f"the lost segments again with {resume_command(layout.folder, '--repair')}"
            )


def claims(layout: Layout) -> list[Claim]:
    """List what the folder shows of segments. A killed process leaves one media file more than the journal names."""
    taken = max((one.segments for one in snapshots.snapshots(layout.snapshots)), default=0)
    last, listed = max(media_numbers(layout), default=0), listed_segments(layout)
    return [
        Claim(taken, f"a snapshot was taken after {taken}"),
        Claim(last, f"{layout.media.name} holds {layout.segment(last).name}"),
        Claim(listed, f"{layout.playlist.name} lists {listed}"),
        Claim(int(layout.video.exists()), f"there is a {layout.video.name}"),
    ]


def media_numbers(layout: Layout) -> Iterator[int]:
    """Yield the numbers of the segments that have a file."""
    names = (re.fullmatch(r"s(\d{6,})\.m4s", path.name) for path in layout.media.glob("s*.m4s"))
    return (int(name[1]) for name in names if name)


def listed_segments(layout: Layout) -> int:
    """Count the segments in the playlist, whatever else is in it."""
    if not layout.playlist.exists():
        return 0
    with open(layout.playlist, "rb") as file:
        return sum(line.startswith(b"media/s") for line in file)


def run_json_altered(layout: Layout, length: int | None = None) -> tuple[str, str] | None:
    """Return the SHA-256 of run.json that the journal holds and the one that it has; None if they agree."""
    known, now = journal.run_hashes(layout.journal, length), manifests.sha256(layout.manifest)
    return (known[-1], now) if known and now not in known else None


def check_run_json(layout: Layout, allow: Iterable[str]) -> tuple[str, str] | None:
    """Raise RunError if run.json was altered since the run wrote it, unless `allow` names it; then return both hashes."""
    altered = run_json_altered(layout)
    if altered is None or {RUN_JSON, "all"} & set(allow):
        return altered
    raise RunError(
        f"{layout.manifest} was altered since the run wrote it: put back the file with SHA-256 {altered[0]}, or continue "
        f"with what it says now: {resume_command(layout.folder, '--allow', RUN_JSON)}"
    )
