"""Make segments again from the nearest snapshot before them: for the proof, and to repair a reel."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor

from longtake import media
from longtake.events import Frames
from longtake.given import Making
from longtake.reel import damage, disk, edits, snapshot
from longtake.reel import journal as journals
from longtake.reel import manifest as manifests
from longtake.reel.disk import ReelError
from longtake.reel.journal import Journal
from longtake.reel.layout import Layout, existing, locked
from longtake.reel.manifest import Manifest, threads
from longtake.reel.segments import Cutter, Segment, Shelf
from longtake.reel.snapshot import Saved

MakeRollout = Callable[[], Making]


@dataclass(frozen=True)
class Run:
    """The frames of one segment, made anew. first: the number of the first of them."""

    index: int
    first: int
    frames: Tensor


@dataclass(frozen=True)
class Remade:
    """A segment's file, made anew. since: the output frame at which the run that made it began."""

    media: bytes
    first: int
    frames: int
    since: int


def runs(layout: Layout, manifest: Manifest, rollout: Making, start: Saved | None) -> Generator[Run]:
    """The segments after a snapshot (None: all), made anew, to the end of the video. Constant memory."""
    cutter = Cutter(manifest.segment)
    edits.follow(layout, rollout)
    if start:
        tensors, facts, pending = snapshot.load(layout.snapshots, start)
        rollout.load(tensors, facts)
        cutter = Cutter(manifest.segment, start.segments * manifest.segment, pending)
    for event in rollout.run():
        if isinstance(event, Frames):
            for first, frames in cutter.push(event.frames[0].cpu()):
                yield Run(first // manifest.segment, first, frames)
    for first, frames in cutter.flush():
        yield Run(first // manifest.segment, first, frames)


def remade(layout: Layout, manifest: Manifest, make: MakeRollout, index: int) -> Remade:
    """Segment `index`, made anew from the nearest snapshot before it."""
    start = snapshot.newest(layout.snapshots, index)
    with threads(manifest.threads):
        for run in runs(layout, manifest, make(), start):
            if run.index == index:
                made = media.encode(run.frames, run.first, manifest.fps, index, manifest.encoding)
                return Remade(made.media, run.first, len(run.frames), start.frames if start else 0)
    raise _not_the_one(layout, index)


def repair(folder: Path | str, manifest: Manifest, make: MakeRollout, allow: Iterable[str] = ()) -> Iterator[Segment]:
    """Cut a damaged journal back to what is sound, and make altered or deleted segments again; yields each.

    Afterwards `record` goes on as usual. Errors: ReelError, also if a segment does not come out as recorded.
    """
    layout = existing(Path(folder))
    with locked(layout):
        manifest, _ = manifests.agreed(manifests.load(layout.manifest), manifest, allow, layout.folder)
        with disk.explained(layout.folder, "repairing the journal"):
            _cut_back(layout)
        count, hurt = damage.damaged(layout)
        snapshot.forget(layout.snapshots, after=snapshot.newest(layout.snapshots, count))
        starts = [one for one in snapshot.saved(layout.snapshots) if snapshot.whole(layout.snapshots, one)]
        with closing(Journal(layout.journal)) as book, threads(manifest.threads):
            for start, group in groupby(hurt, lambda index: _before(starts, index)):
                shelf = Shelf(layout, manifest, book, start.segments if start else 0, count)
                yield from _again(layout, runs(layout, manifest, make(), start), shelf, list(group))


def _before(starts: list[Saved], index: int) -> Saved | None:
    return next((one for one in reversed(starts) if one.segments <= index), None)


def _again(layout: Layout, made: Generator[Run], shelf: Shelf, wanted: list[int]) -> Iterator[Segment]:
    with closing(made):
        for run in made:
            segment = shelf.put(run.first, run.frames)
            if segment.index in wanted:
                yield segment
            if segment.index >= wanted[-1]:
                return
    raise _not_the_one(layout, wanted[-1])


def _not_the_one(layout: Layout, index: int) -> ReelError:
    return ReelError(
        f"the rollout ended before segment {index} of {layout.folder}: it is not the one that made the reel"
    )


def _cut_back(layout: Layout) -> None:
    """Drop the journal from its first damaged line on."""
    length = journals.sound(layout.journal, strict=False)
    if layout.journal.exists() and layout.journal.stat().st_size > length:
        with open(layout.journal, "ab") as file:
            file.truncate(length)
            os.fsync(file.fileno())
