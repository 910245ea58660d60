"""The contact sheet of a prepared folder: what was kept, then what was not and why, a strip of frames each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from longtake.data.analysis import Shot
from longtake.data.captioner import evenly
from longtake.data.manifest import shown
from longtake.data.report import SHOWN, Report
from longtake.data.video import Video, VideoError

PAPER, INK, KEPT, DROPPED = (16, 18, 23), (226, 229, 236), (126, 200, 140), (226, 120, 110)
STRIP, HEIGHT, MARGIN, LINE, WIDTH = 4, 96, 16, 22, 880  # frames of a shot; then pixels


def write_sheet(path: Path, folder: Path, report: Report) -> None:
    """Draw at most 24 shots that were kept and 24 that were not."""
    rows = [*_rows(folder, evenly(report.shown.things, SHOWN), KEPT)]
    rows += _rows(folder, evenly(report.dropped.things, SHOWN), DROPPED)
    paper = Image.new("RGB", (WIDTH, 2 * MARGIN + len(rows) * (HEIGHT + LINE + 8)), PAPER)
    pen, font, top = ImageDraw.Draw(paper), ImageFont.load_default(14), MARGIN
    for words, frames, colour in rows:
        pen.rectangle((MARGIN - 8, top + 3, MARGIN - 5, top + LINE + HEIGHT - 1), colour)
        pen.text((MARGIN, top + LINE // 2), words, INK, font, anchor="lm")
        left = MARGIN
        for frame in frames:
            paper.paste(Image.fromarray(frame), (left, top + LINE))
            left += frame.shape[1] + 6
        top += HEIGHT + LINE + 8
    paper.save(path, optimize=True)


def _rows(
    folder: Path, things: list[tuple[str, Shot, str]], colour: tuple[int, int, int]
) -> Iterator[tuple[str, list[np.ndarray], tuple[int, int, int]]]:
    for video, shot, words in things:
        try:
            with Video(folder / video) as opened:
                frames = list(opened.at(evenly(shot.stamps, STRIP), _fit))
        except (VideoError, OSError):
            frames = []
        label = f"{shown(video)}  {shot.start}-{shot.stop - 1}  {shot.seconds:.1f} s  {words}"
        yield (
            label.encode("latin-1", "replace").decode("latin-1")[:130],
            [frame[:, : WIDTH // STRIP - 12] for frame in frames],
            colour,
        )


def _fit(height: int, width: int) -> tuple[int, int]:
    return HEIGHT, max(2, round(width * HEIGHT / height))
