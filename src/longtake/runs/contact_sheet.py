"""The contact sheet of a run: frames of every scene under its prompt, each with its time."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw
from torch import Tensor

from longtake.media.contact_sheet import FAINT_INK, INK, PAPER, fitted_text, font

WIDTH, MARGIN, GAP, CORNER, HEAD = 1440, 40, 14, 10, 58  # pixels
FEWEST, MOST = 3, 6  # frames in a row
TILES = 24  # about as many frames as a sheet shows
ROWS = 8


@dataclass(frozen=True)
class Section:
    """Output frames first..last under one heading."""

    heading: str
    first: int
    last: int


@dataclass(frozen=True)
class SheetLayout:
    """The frames that a sheet shows, in rows of `columns` tiles, section by section."""

    columns: int
    rows: tuple[tuple[Section, tuple[int, ...]], ...]


def lay_out(sections: Sequence[Section], size: tuple[int, int]) -> SheetLayout:
    """Choose evenly spaced frames of each section. size: (height, width) of a frame. More than ROWS sections become one."""
    if len(sections) > ROWS:
        sections = [Section(f"{len(sections)} scenes", sections[0].first, sections[-1].last)]
    height, width = size
    columns = min(MOST, max(FEWEST, round(5.4 * (height / width) ** 0.5)))
    each = max(1, min(TILES // columns, ROWS) // len(sections))
    return SheetLayout(columns, tuple((section, tuple(_spread(section, columns * each))) for section in sections))


def draw(layout: SheetLayout, frame: Callable[[int], Tensor], fps: float, title: str, note: str) -> bytes:
    """Draw the sheet and return it as PNG.

    frame(n) returns output frame n, (H, W, 3) uint8. title and note stand at the top left and right.
    """
    tile = (WIDTH - 2 * MARGIN - (layout.columns - 1) * GAP) // layout.columns
    height, width = frame(layout.rows[0][1][0]).shape[:2]
    tall = max(1, round(tile * height / width))
    lines = [-(-len(numbers) // layout.columns) for _, numbers in layout.rows]
    heads = [44 if section.heading else 8 for section, _ in layout.rows]
    total = 2 * MARGIN + HEAD - GAP + sum(head + count * (tall + GAP) for head, count in zip(heads, lines))
    paper = Image.new("RGB", (WIDTH, total), PAPER)
    pen = ImageDraw.Draw(paper)
    _draw_title(pen, title, note)
    y = MARGIN + HEAD
    for (section, numbers), head, count in zip(layout.rows, heads, lines):
        if section.heading:
            pen.text((MARGIN, y + 8), fitted_text(section.heading, 22, WIDTH - 2 * MARGIN), INK, font(22))
        y += head
        for i, number in enumerate(numbers):
            column, row = i % layout.columns, i // layout.columns
            corner = (MARGIN + column * (tile + GAP), y + row * (tall + GAP))
            _draw_tile(paper, frame(number), corner, (tile, tall), clock(number / fps))
        y += count * (tall + GAP)
    out = io.BytesIO()
    paper.save(out, "PNG")
    return out.getvalue()


def clock(seconds: float) -> str:
    """Format seconds as 3.2 s, 1:05 or 2:00:07."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    minutes = f"{whole % 3600 // 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"


def _spread(section: Section, count: int) -> list[int]:
    """At most `count` frames from the first to the last one, evenly spaced, each once."""
    span = section.last - section.first
    count = min(count, span + 1)
    return [section.first + round(i * span / max(1, count - 1)) for i in range(count)]


def _draw_title(pen: ImageDraw.ImageDraw, title: str, note: str) -> None:
    wide = pen.textlength(note, font(20))
    pen.text((WIDTH - MARGIN - wide, MARGIN + 8), note, FAINT_INK, font(20))
    pen.text((MARGIN, MARGIN), fitted_text(title, 30, WIDTH - 2 * MARGIN - wide - 40), INK, font(30))


def _draw_tile(paper: Image.Image, frame: Tensor, corner: tuple[int, int], size: tuple[int, int], label: str) -> None:
    """Paste a frame with rounded corners and its time in the lower left."""
    image = Image.fromarray(frame.numpy()).resize(size, Image.Resampling.LANCZOS)
    veil = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(veil)
    box = pen.textbbox((0, 0), label, font(16))
    wide, foot = box[2] - box[0], size[1] - 10
    pen.rounded_rectangle((10, foot - 26, 10 + wide + 18, foot), 13, fill=(10, 11, 14, 170))
    pen.text((19, foot - 13), label, (*INK, 255), font(16), anchor="lm")
    image.paste(veil, (0, 0), veil)
    paper.paste(image, corner, _rounded(size))


@lru_cache(1)
def _rounded(size: tuple[int, int]) -> Image.Image:
    """A mask with smooth round corners: drawn four times as large, then scaled down."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), CORNER * 4, fill=255)
    return mask.resize(size, Image.Resampling.LANCZOS)
