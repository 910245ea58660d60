"""From segments to what a person opens: video.mp4 and the contact sheet."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake import media
from longtake.reel import disk, edits, journal, sheet
from longtake.reel.damage import intact_init, intact_segment
from longtake.reel.disk import Written
from longtake.reel.layout import Layout
from longtake.reel.manifest import Manifest
from longtake.script import Scene, Script


@dataclass(frozen=True)
class Published:
    """The video and contact sheet of the first `segments` segments, which hold `frames` output frames.

    bytes, sha256: of the video.
    """

    video: Path
    sheet: Path
    segments: int
    frames: int
    bytes: int
    sha256: str

    def facts(self) -> dict[str, Any]:
        """For the journal."""
        return {"segments": self.segments, "frames": self.frames, "bytes": self.bytes, "sha256": self.sha256}

    @staticmethod
    def of(layout: Layout, facts: Mapping[str, Any]) -> Published:
        """Undo `facts`."""
        names = ("segments", "frames", "bytes", "sha256")
        return Published(layout.video, layout.sheet, **{name: facts[name] for name in names})


def publish(layout: Layout, manifest: Manifest) -> Published | None:
    """Make both files of every segment in the journal, in constant memory; None if there is no segment yet.

    Every segment is compared with its hash on the way. Equal segments give an equal video.mp4.
    """
    segments = frames = size = 0
    for entry in journal.segments(layout.journal):
        segments, frames, size = entry.index + 1, entry.first + entry.frames, size + entry.bytes
    if not segments:
        return None
    written = _video(layout, segments, size)
    with disk.explained(layout.folder, "drawing the contact sheet"):
        disk.write(layout.sheet, [_sheet(layout, manifest, frames)])
    return Published(layout.video, layout.sheet, segments, frames, written.bytes, written.sha256)


def _video(layout: Layout, segments: int, size: int) -> Written:
    with disk.explained(layout.folder, "writing video.mp4"):
        if shutil.disk_usage(layout.folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        entries = islice(journal.segments(layout.journal), segments)
        with disk.replaced(layout.video) as spare:
            media.join(intact_init(layout), (intact_segment(layout, entry) for entry in entries), spare)
            written = disk.measure(spare)
    assert written is not None
    return written


# ---------------------------------------------------------------- the sheet
def _sheet(layout: Layout, manifest: Manifest, frames: int) -> bytes:
    @lru_cache(1)
    def segment(index: int) -> tuple[Tensor, ...]:
        data = layout.init.read_bytes() + layout.segment(index).read_bytes()
        return tuple(picture for _, picture in media.read(data))

    def frame(number: int) -> Tensor:
        return segment(number // manifest.segment)[number % manifest.segment]

    title, sections = _sections(edits.rewritten(layout, manifest), frames)
    height, width = manifest.size
    facts = f"{float(frames / manifest.fps):.1f} s · {float(manifest.fps):g} fps · {width} x {height}"
    note = " · ".join(
        str(part) for part in (manifest.settings.get("model", ""), facts, f"seed {manifest.seed}") if part
    )
    return sheet.draw(sheet.lay_out(sections, manifest.size), frame, float(manifest.fps), title, note)


def _sections(manifest: Manifest, frames: int) -> tuple[str, list[sheet.Section]]:
    """The title, and the scenes of settings["script"] (as `Script.facts` gives it), if it is there."""
    facts = manifest.settings.get("script")
    if not isinstance(facts, dict):
        return "longtake", [sheet.Section("", 0, frames - 1)]
    script = Script.from_facts(facts)
    before = manifest.settings.get("given", {}).get("video", {}).get("frames", 0)
    starts = [start + before for start in script.starts if start + before < frames]
    if before:
        starts, script = [0, *starts], replace(script, scenes=(Scene("the video before"), *script.scenes))
    sections = [
        sheet.Section(scene.prompt, first, after - 1)
        for scene, (first, after) in zip(script.scenes, pairwise([*starts, frames]))
    ]
    if len(sections) == 1:
        return sections[0].heading, [sheet.Section("", 0, frames - 1)]
    return f"{len(sections)} scenes", sections
