"""The contact sheet of a prepared folder: a strip of frames for kept shots, then for dropped shots with the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from longtake.data.captions.captioners import evenly_spaced
from longtake.data.manifest import printable
from longtake.data.report import SHOWN, Report
from longtake.data.shots.analysis import Shot
from longtake.media.contact_sheet import Colour, Strip, draw_strips
from longtake.media.video_reader import VideoError, VideoReader

KEPT, DROPPED = (126, 200, 140), (226, 120, 110)  # colours of the bars
FRAMES, HEIGHT, WIDTH = 4, 96, 880  # frames of a shot; pixels of a frame's height and of the sheet's width


def write_sheet(path: Path, folder: Path, report: Report) -> None:
    """Draw at most 24 kept and 24 dropped shots. folder: of the videos."""
    strips = [*_strips(folder, evenly_spaced(report.shown.items, SHOWN), KEPT)]
    strips += _strips(folder, evenly_spaced(report.dropped.items, SHOWN), DROPPED)
    draw_strips(strips, WIDTH, HEIGHT).save(path, optimize=True)


def _strips(folder: Path, shots: list[tuple[str, Shot, str]], bar: Colour) -> Iterator[Strip]:
    for video, shot, words in shots:
        try:
            with VideoReader(folder / video) as reader:
                frames = list(reader.at(evenly_spaced(shot.stamps, FRAMES), _fit))
        except (VideoError, OSError):
            frames = []
        caption = f"{printable(video)}  {shot.start}-{shot.stop - 1}  {shot.seconds:.1f} s  {words}"
        images = [Image.fromarray(frame[:, : WIDTH // FRAMES - 16]) for frame in frames]
        yield Strip(caption.encode("latin-1", "replace").decode("latin-1"), images, bar)


def _fit(height: int, width: int) -> tuple[int, int]:
    return HEIGHT, max(2, round(width * HEIGHT / height))
