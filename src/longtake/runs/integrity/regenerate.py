"""Generate segments again from the nearest snapshot before them, to verify or to repair a run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake.core.platform import delete_file, sync
from longtake.engine.events import Frames
from longtake.media import video_io
from longtake.pipelines.settings.machine import torch_threads
from longtake.pipelines.settings.video_continuation import Generation
from longtake.runs.edit_inbox import follow_accepted_edits
from longtake.runs.events import SegmentWritten
from longtake.runs.files import journal, playlist, snapshots
from longtake.runs.files import manifest as manifests
from longtake.runs.files.damage import damaged_segments
from longtake.runs.files.differences import agreed_manifest
from longtake.runs.files.errors import RunError, explained
from longtake.runs.files.folder import existing_layout
from longtake.runs.files.journal import Journal
from longtake.runs.files.layout import Layout, locked
from longtake.runs.files.lost_lines import check_run_json, listed_segments, media_numbers
from longtake.runs.files.manifest import Manifest
from longtake.runs.files.snapshots import SnapshotFile
from longtake.runs.segments import SegmentBuffer, SegmentWriter

NewRollout = Callable[[], Generation]  # gives a new rollout with the settings of the run


@dataclass(frozen=True)
class SegmentFrames:
    """The frames (T, H, W, 3) of one segment, generated again. first: number of the first frame."""

    index: int
    first: int
    frames: Tensor


@dataclass(frozen=True)
class Regenerated:
    """The media file of a segment, generated again. since: output frame of the snapshot from which it was generated."""

    media: bytes
    first: int
    frames: int
    since: int


def regenerate(
    layout: Layout, manifest: Manifest, rollout: Generation, start: SnapshotFile | None, state: Any = None
) -> Generator[SegmentFrames]:
    """Generate the segments after a snapshot (None: from the start) to the end of the video, in constant memory.

    state: what `snapshots.load` returned of that snapshot (None: it is read here).
    """
    buffer = SegmentBuffer(manifest.segment)
    follow_accepted_edits(layout, rollout)
    if start:
        tensors, facts, pending = state or snapshots.load(layout.snapshots, start)
        rollout.load(tensors, facts)
        buffer = SegmentBuffer(manifest.segment, start.segments * manifest.segment, pending)
    for event in rollout.run():
        if isinstance(event, Frames):
            for first, frames in buffer.push(event.frames[0].cpu()):
                yield SegmentFrames(first // manifest.segment, first, frames)
    for first, frames in buffer.flush():
        yield SegmentFrames(first // manifest.segment, first, frames)


def regenerate_segment(layout: Layout, manifest: Manifest, new_rollout: NewRollout, index: int) -> Regenerated:
    """Generate segment `index` again from the nearest snapshot before it, and encode it."""
    with torch_threads(manifest.threads):
        while True:  # a growing run may delete the snapshot before it is read
            start = snapshots.newest(layout.snapshots, index)
            try:
                state = None if start is None else snapshots.load(layout.snapshots, start)
                break
            except FileNotFoundError:
                continue
        for one in regenerate(layout, manifest, new_rollout(), start, state):
            if one.index == index:
                encoded = video_io.encode(one.frames, one.first, manifest.fps, index, manifest.encoding)
                return Regenerated(encoded.media, one.first, len(one.frames), start.frames if start else 0)
    raise _ended_early(layout, index)


def repair(
    folder: Path | str, manifest: Manifest, new_rollout: NewRollout, allow: Iterable[str] = ()
) -> Iterator[SegmentWritten]:
    """Cut a damaged journal back to its sound lines, and generate altered or deleted segments again; yield each.

    Afterwards `record` resumes the run as usual. Raises RunError, also if a segment does not come out as recorded.
    """
    layout = existing_layout(Path(folder))
    with locked(layout):
        manifest, _ = agreed_manifest(manifests.load(layout.manifest), manifest, allow, layout.folder)
        with explained(layout.folder, "repairing the journal"):
            _cut_journal_back(layout)
            check_run_json(layout, allow)
        count, damaged = damaged_segments(layout)
        with explained(layout.folder, "removing what the journal does not name"):
            _remove_unnamed(layout, manifest, count)
        snapshots.delete_later(layout.snapshots, after=snapshots.newest(layout.snapshots, count))
        have = snapshots.snapshots(layout.snapshots)
        starts = [one for one in have if snapshots.is_intact(layout.snapshots, one)]
        with (
            closing(Journal(layout.journal, manifests.sha256(layout.manifest))) as open_journal,
            torch_threads(manifest.threads),
        ):
            for start, group in groupby(damaged, lambda index: _nearest(starts, index)):
                writer = SegmentWriter(layout, manifest, open_journal, start.segments if start else 0, count)
                yield from _rewrite(layout, regenerate(layout, manifest, new_rollout(), start), writer, list(group))


def _remove_unnamed(layout: Layout, manifest: Manifest, count: int) -> None:
    """Delete the segments behind the journal, which the resume generates again, and shorten the playlist to the journal."""
    for index in list(media_numbers(layout)):
        if index >= count:
            delete_file(layout.segment(index))
    if listed_segments(layout) > count:
        playlist.restore(layout, manifest)
    if not count:
        delete_file(layout.video)


def _nearest(starts: list[SnapshotFile], index: int) -> SnapshotFile | None:
    return next((one for one in reversed(starts) if one.segments <= index), None)


def _rewrite(
    layout: Layout, found: Generator[SegmentFrames], writer: SegmentWriter, wanted: list[int]
) -> Iterator[SegmentWritten]:
    with closing(found):
        for one in found:
            segment = writer.put(one.first, one.frames)
            if segment.index in wanted:
                yield segment
            if segment.index >= wanted[-1]:
                return
    raise _ended_early(layout, wanted[-1])


def _ended_early(layout: Layout, index: int) -> RunError:
    return RunError(
        f"the rollout ended before segment {index} of {layout.folder}: it is not the rollout that made this run"
    )


def _cut_journal_back(layout: Layout) -> None:
    """Drop the journal from its first damaged line on."""
    length = journal.sound_length(layout.journal, strict=False)
    if layout.journal.exists() and layout.journal.stat().st_size > length:
        with open(layout.journal, "ab") as file:
            file.truncate(length)
            sync(file.fileno())
