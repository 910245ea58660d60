"""A few frames of a run, evenly spaced over its segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from longtake.media.video_reader import timed_frames
from longtake.runs.files import journal
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import manifest_of


def sampled_frames(folder: Path, count: int) -> list[np.ndarray]:
    """Return at most `count` durable frames of a run from its first to its last, uint8 (H, W, 3)."""
    layout, manifest = Layout(folder), manifest_of(folder)
    total = sum(entry.frames for entry in journal.segments(layout.journal))
    init = layout.init.read_bytes() if total else b""
    frames = []
    for number in sorted({round(i * (total - 1) / max(1, count - 1)) for i in range(count)} if total else ()):
        media = layout.segment(number // manifest.segment).read_bytes()
        pictures = [picture for _, picture in timed_frames(init + media)]
        frames.append(pictures[number % manifest.segment].numpy())
    return frames
