"""The contact sheet: a reel at one glance, frames in rows under the prompts that made them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

WIDTH, MARGIN, GAP, CORNER = 1440, 40, 14, 10
PAPER, INK, SOFT = (16, 18, 23), (236, 238, 242), (138, 144, 156)
FEWEST, MOST = 3, 6  # frames in a row
TILES = 24  # about as many frames as a sheet shows
ROWS = 8


@dataclass(frozen=True)
class Section:
    """Frames first..last under one heading."""

    heading: str
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Which frames a sheet shows, in rows of `columns` tiles, section by section."""

    columns: int
    rows: tuple[tuple[Section, tuple[int, ...]], ...]


def lay_out(sections: Sequence[Section], size: tuple[int, int]) -> Plan:
    """Choose evenly spaced frames of each section. size: (height, width) of a frame. At most ROWS sections."""
    if len(sections) > ROWS:
        sections = [Section(f"{len(sections)} scenes", sections[0].first, sections[-1].last)]
    height, width = size
    columns = min(MOST, max(FEWEST, round(5.4 * (height / width) ** 0.5)))
    each = max(1, min(TILES // columns, ROWS) // len(sections))
    return Plan(columns, tuple((section, tuple(_spread(section, columns * each))) for section in sections))


def _spread(section: Section, count: int) -> list[int]:
    """At most `count` frames from the first to the last one, evenly spaced, each once."""
    span = section.last - section.first
    count = min(count, span + 1)
    return [section.first + round(i * span / max(1, count - 1)) for i in range(count)]


def draw(plan: Plan, frame: Callable[[int], Tensor], fps: float, title: str, note: str) -> bytes:
    """The sheet as PNG. frame(n) gives output frame n (H W 3) uint8; title and note stand at the top."""
    tile = (WIDTH - 2 * MARGIN - (plan.columns - 1) * GAP) // plan.columns
    height, width = frame(plan.rows[0][1][0]).shape[:2]
    tall = max(1, round(tile * height / width))
    headed = [section.heading for section, _ in plan.rows]
    lines = [-(-len(numbers) // plan.columns) for _, numbers in plan.rows]
    total = MARGIN + 58 + sum((44 if head else 8) + n * (tall + GAP) for head, n in zip(headed, lines)) + MARGIN - GAP
    paper = Image.new("RGB", (WIDTH, total), PAPER)
    pen = ImageDraw.Draw(paper)
    _headline(pen, title, note)
    y = MARGIN + 58
    for section, numbers in plan.rows:
        if section.heading:
            pen.text((MARGIN, y + 8), _fitted(section.heading, 22, WIDTH - 2 * MARGIN), INK, _font(22))
        y += 44 if section.heading else 8
        for i, number in enumerate(numbers):
            column, row = i % plan.columns, i // plan.columns
            at = (MARGIN + column * (tile + GAP), y + row * (tall + GAP))
            _tile(paper, frame(number), at, (tile, tall), _clock(number / fps))
        y += -(-len(numbers) // plan.columns) * (tall + GAP)
    out = io.BytesIO()
    paper.save(out, "PNG")
    return out.getvalue()


def _headline(pen: ImageDraw.ImageDraw, title: str, note: str) -> None:
    wide = pen.textlength(note, _font(20))
    pen.text((WIDTH - MARGIN - wide, MARGIN + 8), note, SOFT, _font(20))
    pen.text((MARGIN, MARGIN), _fitted(title, 30, WIDTH - 2 * MARGIN - wide - 40), INK, _font(30))


def _tile(paper: Image.Image, frame: Tensor, at: tuple[int, int], size: tuple[int, int], label: str) -> None:
    """One frame with rounded corners and its time in the lower left."""
    picture = Image.fromarray(frame.numpy()).resize(size, Image.Resampling.LANCZOS)
    veil = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(veil)
    box = pen.textbbox((0, 0), label, _font(16))
    wide, foot = box[2] - box[0], size[1] - 10
    pen.rounded_rectangle((10, foot - 26, 10 + wide + 18, foot), 13, fill=(10, 11, 14, 170))
    pen.text((19, foot - 13), label, (*INK, 255), _font(16), anchor="lm")
    picture.paste(veil, (0, 0), veil)
    paper.paste(picture, at, _rounded(size))


@lru_cache(1)
def _rounded(size: tuple[int, int]) -> Image.Image:
    """A mask with smooth round corners: drawn four times as large."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), CORNER * 4, fill=255)
    return mask.resize(size, Image.Resampling.LANCZOS)


def _clock(seconds: float) -> str:
    """3.2 s, 1:05, 2:00:07."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    minutes = f"{whole % 3600 // 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"


def _fitted(text: str, size: int, width: float) -> str:
    """The text, cut to what fits."""
    font, text = _font(size), " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
