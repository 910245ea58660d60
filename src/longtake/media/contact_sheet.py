"""Contact sheets: strips of frames under captions, and the colours and text that all sheets share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]

PAPER, INK, FAINT_INK = (16, 18, 23), (232, 235, 240), (138, 144, 156)
MARGIN, GAP, LINE = 20, 6, 30  # pixels: around the sheet, between frames, for a caption


@dataclass(frozen=True)
class Strip:
    """A row of a contact sheet: a caption above images of one height. bar: colour of a bar at its left, or None."""

    caption: str
    images: Sequence[Image.Image]
    bar: Colour | None = None


def draw_strips(strips: Sequence[Strip], width: int, height: int) -> Image.Image:
    """Draw strips one below the other. width: of the sheet; height: of the images; both in pixels."""
    size = (width, 2 * MARGIN + len(strips) * (LINE + height + GAP) - GAP)
    paper = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(paper)
    for row, strip in enumerate(strips):
        top = MARGIN + row * (LINE + height + GAP)
        if strip.bar:
            pen.rectangle((MARGIN - 9, top + 5, MARGIN - 6, top + LINE + height - 1), strip.bar)
        caption = fitted_text(strip.caption, 16, width - 2 * MARGIN)
        pen.text((MARGIN, top + LINE // 2), caption, INK, font(16), anchor="lm")
        left = MARGIN
        for image in strip.images:
            paper.paste(image, (left, top + LINE))
            left += image.width + GAP
    return paper


def contact_sheet(rows: Sequence[tuple[str, Tensor]], columns: int = 9, scale: int = 2) -> Image.Image:
    """Draw clips under their captions.

    rows: captions and clips (T, 3, H, W) in [0, 1]. columns: frames shown of each, evenly spaced over time.
    scale: pixels of the sheet for a pixel of a frame.
    """
    height, width = (scale * side for side in rows[0][1].shape[2:])
    strips = []
    for caption, frames in rows:
        shown = np.linspace(0, len(frames) - 1, columns).round().astype(int)
        strips.append(Strip(caption, [picture(frames[index], scale) for index in shown]))
    return draw_strips(strips, 2 * MARGIN + columns * (width + GAP) - GAP, height)


def picture(frame: Tensor, scale: int = 1) -> Image.Image:
    """Convert a frame (3, H, W) in [0, 1] to an image, each pixel as a square of `scale` by `scale`."""
    pixels = (frame.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((scale * pixels.shape[1], scale * pixels.shape[0]), Image.Resampling.NEAREST)


def save_sheet(path: Path, rows: Sequence[tuple[str, Tensor]], columns: int = 9, scale: int = 2) -> None:
    """Write a `contact_sheet` as PNG."""
    contact_sheet(rows, columns, scale).save(path, optimize=True)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font in a size."""
    return ImageFont.load_default(size)


def fitted_text(text: str, size: int, width: float) -> str:
    """Return the text in one line, cut off with an ellipsis where it is wider than `width` pixels at a font size."""
    face, text = font(size), " ".join(text.split())
    if face.getlength(text) <= width:
        return text
    fitting = bisect_left(range(1, len(text)), True, key=lambda n: face.getlength(text[:n] + "…") > width)
    return text[:fitting].rstrip() + "…"
