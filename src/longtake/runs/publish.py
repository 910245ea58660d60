"""Publishing: video.mp4 and the contact sheet, made from the segments."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path

from torch import Tensor

from longtake.core.platform import delete_file
from longtake.core.units import pixels
from longtake.media import video_io
from longtake.media.metadata import check_comment, comment_text
from longtake.media.sound import write_sound
from longtake.media.video_reader import timed_frames
from longtake.pipelines.carried.facts import carried_settings
from longtake.planning.script import Scene, Script
from longtake.runs import contact_sheet
from longtake.runs.contact_sheet import Section
from longtake.runs.events import PublishedVideo
from longtake.runs.files import durable, journal
from longtake.runs.files.damage import intact_init, intact_segment
from longtake.runs.files.durable import FileDigest
from longtake.runs.files.edit_files import edited_manifest
from longtake.runs.files.errors import explained
from longtake.runs.files.input_files import frames_before, input_facts
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import Manifest


def publish(layout: Layout, manifest: Manifest) -> PublishedVideo | None:
    """Write video.mp4 and the contact sheet of all segments in the journal, in constant memory.

    Returns None if there is no segment yet. Every segment is compared with its hash on the way; equal segments give an
    equal video.mp4. Raises RunError if a segment is damaged or the disk is full.
    """
    segments = frames = size = 0
    for entry in journal.segments(layout.journal):
        segments, frames, size = entry.index + 1, entry.first + entry.frames, size + entry.bytes
    if not segments:
        return None
    written = _write_video(layout, manifest, segments, frames, size)
    with explained(layout.folder, "drawing the contact sheet"):
        sheet = durable.write_file(layout.sheet, [drawn_sheet(layout, manifest, frames)])
    return PublishedVideo(layout.video, layout.sheet, segments, frames, written.bytes, written.sha256, sheet.sha256)


def _write_video(layout: Layout, manifest: Manifest, segments: int, frames: int, size: int) -> FileDigest:
    with explained(layout.folder, "writing video.mp4"):
        if shutil.disk_usage(layout.folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        entries = islice(journal.segments(layout.journal), segments)
        with durable.atomic_path(layout.video) as temporary, _sound(layout, manifest, frames) as sound:
            whole = (intact_segment(layout, entry) for entry in entries)
            comment = carried_by(layout, manifest, frames) if manifest.metadata else ""
            video_io.join(intact_init(layout), whole, temporary, sound, comment)
            if comment:
                check_comment(temporary, comment)
            written = durable.file_digest(temporary)
    assert written is not None
    return written


def carried_by(layout: Layout, manifest: Manifest, frames: int) -> str:
    """Return the comment of a video file that holds the first `frames` output frames of a run.

    It depends on run.json and the journal alone, so that video.mp4 gets the same bytes whenever it is written.
    """
    edited = edited_manifest(layout, manifest)
    video = {name: value for name, value in manifest.video().items() if name != "metadata"} | {"frames": frames}
    machine = {**manifest.versions, **manifest.machine, "threads": manifest.threads}
    return comment_text(carried_settings(edited.settings, manifest.weights, video, machine))


@contextmanager
def _sound(layout: Layout, manifest: Manifest, frames: int) -> Iterator[Path | None]:
    """Yield a temporary file with the sound of the video that this one continues, None if there is no sound."""
    before, name = min(frames, frames_before(manifest)), input_facts(manifest).get("video", {}).get("name")
    path = layout.folder / f"sound.mp4{durable.TEMPORARY}"
    try:
        there = before and name and (layout.inputs / name).is_file()
        yield path if there and write_sound(layout.inputs / name, before / Fraction(manifest.fps), path) else None
    finally:
        delete_file(path)


def drawn_sheet(layout: Layout, manifest: Manifest, frames: int) -> bytes:
    """Return the contact sheet of the first `frames` output frames as PNG."""

    @lru_cache(1)
    def segment(index: int) -> tuple[Tensor, ...]:
        data = layout.init.read_bytes() + layout.segment(index).read_bytes()
        return tuple(picture for _, picture in timed_frames(data))

    def frame(number: int) -> Tensor:
        return segment(number // manifest.segment)[number % manifest.segment]

    title, sections = _sections(edited_manifest(layout, manifest), frames)
    facts = f"{float(frames / manifest.fps):.1f} s · {float(manifest.fps):g} fps · {pixels(manifest.size)}"
    parts = (manifest.settings.get("model", ""), facts, f"seed {manifest.seed}")
    note = " · ".join(str(part) for part in parts if part)
    sheet = contact_sheet.lay_out(sections, manifest.size)
    return contact_sheet.draw(sheet, frame, float(manifest.fps), title, note)


def _sections(manifest: Manifest, frames: int) -> tuple[str, list[Section]]:
    """The title, and one section for each scene of settings["script"] (written by `Script.facts`), if there is one."""
    facts = manifest.settings.get("script")
    if not isinstance(facts, dict):
        return "longtake", [Section("", 0, frames - 1)]
    script, before = Script.from_facts(facts), frames_before(manifest)
    starts = [start + before for start in script.starts if start + before < frames]
    if before:
        starts, script = [0, *starts], replace(script, scenes=(Scene("the extended video"), *script.scenes))
    sections = [
        Section(scene.prompt, first, after - 1)
        for scene, (first, after) in zip(script.scenes, pairwise([*starts, frames]))
    ]
    if len(sections) == 1:
        return sections[0].heading, [Section("", 0, frames - 1)]
    return f"{len(sections)} scenes", sections
