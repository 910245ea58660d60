"""A plan diagram as a PNG, for documents."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from longtake.cli.plan_drawing.diagram import NOISE, Panel, legend, thinned
from longtake.core.geometry import first_frame

CELL, GAP, MARGIN, LINE = 16, 1, 56, 24
PAPER, INK, FAINT = (250, 249, 246), (40, 36, 48), (140, 134, 148)
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
MOST = 40  # rows of a panel


def draw(panels: Sequence[Panel], stride: int, title: str) -> Image.Image:
    """Draw panels below each other on one time axis."""
    columns = range(max(panel.columns.stop for panel in panels))
    rows = [thinned(range(len(panel.rows) - 1), MOST) for panel in panels]
    height = 3 * LINE + sum(len(r) * CELL + (2 if p.opening else 1) * LINE + LINE // 2 for r, p in zip(rows, panels))
    image = Image.new("RGB", (max(2 * MARGIN + len(columns) * CELL, 560), height + LINE), PAPER)
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((MARGIN, 10), title, INK, font)
    for column in columns[::4]:
        pen.text((MARGIN + column * CELL, LINE + 14), str(first_frame(column, stride)), FAINT, small)
    pen.text((10, LINE + 14), "frame", FAINT, small)
    y = 2 * LINE + 10
    for panel, chosen in zip(panels, rows):
        y = _panel(pen, panel, chosen, y, small)
    _legend(pen, y, small, panels)
    return image


def _panel(pen: ImageDraw.ImageDraw, panel: Panel, chosen: Sequence[int], y: int, font: Font) -> int:
    if panel.opening:
        pen.text((MARGIN, y), panel.opening, (176, 58, 140), font)
        y += LINE
    pen.text((MARGIN, y), panel.title, INK, font)
    y += LINE - 4
    for number, row in enumerate(chosen):
        if number % 8 == 0:
            pen.text((10, y + 1), f"{panel.calls + row + 1}", FAINT, font)
        for column, cell in panel.rows[row].items():
            x = MARGIN + column * CELL
            pen.rectangle((x, y, x + CELL - 1 - GAP, y + CELL - 1 - GAP), cell.colour)
        y += CELL
    return y + LINE // 2 + 4


def _legend(pen: ImageDraw.ImageDraw, y: int, font: Font, panels: Sequence[Panel]) -> None:
    x = MARGIN
    for shades, text in ((NOISE[::-1], "noise becomes video"), *(((c,), text) for c, text in legend(panels).items())):
        for shade in shades:
            pen.rectangle((x, y, x + 14, y + 14), shade)
            x += 15
        pen.text((x + 6, y + 1), text, FAINT, font)
        x += 6 + int(pen.textlength(text, font)) + 24
