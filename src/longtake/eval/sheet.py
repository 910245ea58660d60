"""A contact sheet of short clips: a row for each, its caption above it, frames over time from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK = (16, 18, 23), (226, 229, 236)
MARGIN, GAP, LINE = 20, 6, 30  # pixels: around the sheet, between frames, for a caption


def contact_sheet(rows: Sequence[tuple[str, Tensor]], columns: int = 9, scale: int = 2) -> Image.Image:
    """Captions and clips (T, 3, H, W) in [0, 1], each as `columns` frames evenly spaced over time, `scale` as large."""
    height, width = (scale * side for side in rows[0][1].shape[2:])
    size = (2 * MARGIN + columns * (width + GAP) - GAP, 2 * MARGIN + len(rows) * (LINE + height + GAP) - GAP)
    paper = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(16)
    for row, (caption, frames) in enumerate(rows):
        top = MARGIN + row * (LINE + height + GAP)
        pen.text((MARGIN, top + LINE // 2), caption, INK, font, anchor="lm")
        for column, index in enumerate(np.linspace(0, len(frames) - 1, columns).round().astype(int)):
            paper.paste(picture(frames[index], scale), (MARGIN + column * (width + GAP), top + LINE))
    return paper


def picture(frame: Tensor, scale: int = 1) -> Image.Image:
    """A frame (3, H, W) in [0, 1], each pixel as a square of `scale` by `scale`."""
    pixels = (frame.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((scale * pixels.shape[1], scale * pixels.shape[0]), Image.Resampling.NEAREST)


def save_sheet(path: Path, rows: Sequence[tuple[str, Tensor]], columns: int = 9, scale: int = 2) -> None:
    """Write a contact sheet as PNG."""
    contact_sheet(rows, columns, scale).save(path, optimize=True)
