"""Segments whose file is missing, or differs from the hash in the journal."""

from __future__ import annotations

from pathlib import Path

from longtake.runs.files import durable, journal
from longtake.runs.files.errors import RunError, resume_command
from longtake.runs.files.journal import SegmentEntry
from longtake.runs.files.layout import Layout


def damaged_segments(layout: Layout, budget: int | None = None, length: int | None = None) -> tuple[int, list[int]]:
    """Return the number of segments in the journal, and the numbers of those whose file is missing or altered.

    budget: bytes up to which contents are compared; behind that only sizes are (None: compare all contents). A damaged
    init.mp4 counts as segment 0, since generating that again restores it. length: bytes of the journal that are read.
    """
    count, read = 0, 0
    damaged = []
    init = journal.init_digest(layout.journal, length)
    for entry in journal.segments(layout.journal, length=length):
        read += entry.bytes
        intact = _intact(layout, entry, contents=budget is None or read <= budget)
        if entry.index == 0 and durable.file_digest(layout.init) != init:
            intact = False
        if not intact:
            damaged.append(entry.index)
        count = entry.index + 1
    return count, damaged


def refuse_damage(layout: Layout, damaged: list[int]) -> None:
    """Raise RunError that names the damaged segments, if there are any."""
    if damaged:
        names = ", ".join(layout.segment(i).name for i in damaged[:5]) + (" ..." if len(damaged) > 5 else "")
        raise RunError(
            f"{names} in {layout.media} altered or deleted since the run wrote them: "
            f"{resume_command(layout.folder, '--repair')} generates them again, bit for bit"
        )


def intact_segment(layout: Layout, entry: SegmentEntry) -> bytes:
    """Return the bytes of a segment. Raises RunError if they differ from the journal."""
    data = _bytes(layout.segment(entry.index))
    if durable.digest(data) != entry.digest:
        refuse_damage(layout, [entry.index])
    return data


def intact_init(layout: Layout) -> bytes:
    """Return the bytes of init.mp4. Raises RunError if they differ from the journal."""
    data = _bytes(layout.init)
    if durable.digest(data) != journal.init_digest(layout.journal):
        raise RunError(
            f"{layout.init} was altered or deleted since the run wrote it: "
            f"{resume_command(layout.folder, '--repair')} generates it again, bit for bit"
        )
    return data


def _intact(layout: Layout, entry: SegmentEntry, contents: bool) -> bool:
    path = layout.segment(entry.index)
    if contents:
        return durable.file_digest(path) == entry.digest
    return path.exists() and path.stat().st_size == entry.bytes


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
