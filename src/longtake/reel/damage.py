"""Find segments whose file is not what the journal says."""

from __future__ import annotations

from pathlib import Path

from longtake.reel import disk, journal
from longtake.reel.disk import ReelError
from longtake.reel.journal import Entry
from longtake.reel.layout import Layout


def damaged(layout: Layout, budget: int | None = None) -> tuple[int, list[int]]:
    """How many segments the journal has, and the numbers of those that were altered or are gone.

    budget: bytes up to which contents are compared, beyond it only sizes (None: compare everything). A damaged init
    part counts as segment 0, which brings it back when it is made again.
    """
    count, spent = 0, 0
    hurt = []
    for entry in journal.segments(layout.journal):
        spent += entry.bytes
        fine = _same(layout, entry, deep=budget is None or spent <= budget)
        if not fine or (entry.index == 0 and disk.measure(layout.init) != journal.init(layout.journal)):
            hurt.append(entry.index)
        count = entry.index + 1
    return count, hurt


def _same(layout: Layout, entry: Entry, deep: bool) -> bool:
    path = layout.segment(entry.index)
    if deep:
        return disk.measure(path) == entry.written
    return path.exists() and path.stat().st_size == entry.bytes


def refuse(layout: Layout, hurt: list[int]) -> None:
    """ReelError that names the damaged segments, if there are any."""
    if hurt:
        names = ", ".join(layout.segment(i).name for i in hurt[:5]) + (" ..." if len(hurt) > 5 else "")
        raise ReelError(
            f"{names} in {layout.media} altered or deleted since they were made: "
            f"{disk.resume(layout.folder, '--repair')} makes them again, bit for bit"
        )


def intact_segment(layout: Layout, entry: Entry) -> bytes:
    """The bytes of a segment; ReelError if they are not what the journal says."""
    data = _bytes(layout.segment(entry.index))
    if disk.digest(data) != entry.written:
        refuse(layout, [entry.index])
    return data


def intact_init(layout: Layout) -> bytes:
    """The bytes of the part that all segments share; ReelError if they are not what the journal says."""
    data = _bytes(layout.init)
    if disk.digest(data) != journal.init(layout.journal):
        raise ReelError(
            f"{layout.init} was altered or deleted since it was made: "
            f"{disk.resume(layout.folder, '--repair')} makes it again, bit for bit"
        )
    return data


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
