"""The curves of a run as a picture: the training loss, and the losses of evaluations, over the steps of log.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from longtake.media.contact_sheet import font
from longtake.train.run.checkpoint import replaced

CURVES = "curves.png"
LOSSES = ("loss", "val_loss")  # entries of the log that begin so are drawn
COLOURS = ("#2471a3", "#c0392b", "#239b56", "#b9770e", "#7d3c98", "#117a65", "#5d6d7e")
WIDE, TALL, LEFT, RIGHT, TOP, BOTTOM = 960, 480, 70, 190, 20, 40  # pixels: the picture, and the edges around the axes
Curve = Sequence[tuple[int, float]]  # (step, value)


def read_curves(log: Path) -> dict[str, Curve]:
    """Read the losses of a log, {name: curve}; a loss that is not finite is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for text in log.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        for name, value in line.items():
            if name.startswith(LOSSES) and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, []).append((line["step"], value))
    return dict(found)


def write_curves(log: Path, picture: Path) -> None:
    """Draw the losses of a log; nothing is written before the log has one."""
    if log.exists() and (curves := read_curves(log)):
        with replaced(picture) as draft:
            drawn(curves).save(draft, format="PNG")


def drawn(curves: Mapping[str, Curve]) -> Image.Image:
    """Draw curves over steps. The axis of values is logarithmic if all are positive and the largest is ten times the least."""
    points = [point for curve in curves.values() for point in curve]
    last, values = max(step for step, _ in points), [value for _, value in points]
    log = min(values) > 0 and max(values) >= 10 * min(values)
    scale = math.log10 if log else float
    low, high = scale(min(values)), scale(max(values))
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    image = Image.new("RGB", (WIDE, TALL), "white")
    pen, small = ImageDraw.Draw(image), font(12)

    def place(step: int, value: float) -> tuple[float, float]:
        across = LEFT + step / max(last, 1) * (WIDE - LEFT - RIGHT)
        return across, TOP + (high - scale(value)) / (high - low) * (TALL - TOP - BOTTOM)

    for level in _ticks(low, high):
        value = 10**level if log else level
        y = place(0, value)[1]
        pen.line((LEFT, y, WIDE - RIGHT, y), "#dddddd")
        pen.text((LEFT - 8, y), f"{value:.3g}", "#333333", small, anchor="rm")
    for step in dict.fromkeys((0, last // 2, last)):
        pen.text((place(step, values[0])[0], TALL - BOTTOM + 8), f"{step}", "#333333", small, anchor="ma")
    pen.text((LEFT + (WIDE - LEFT - RIGHT) / 2, TALL - 4), "step", "#333333", small, anchor="mb")
    for number, (name, curve) in enumerate(curves.items()):
        colour, y = COLOURS[number % len(COLOURS)], TOP + 18 * number
        line = [place(step, value) for step, value in curve]
        pen.line(line, colour, 2)
        for x, height in line if len(line) < 40 else ():
            pen.ellipse((x - 2, height - 2, x + 2, height + 2), colour)
        pen.line((WIDE - RIGHT + 14, y + 8, WIDE - RIGHT + 34, y + 8), colour, 3)
        pen.text((WIDE - RIGHT + 40, y), f"{name} {curve[-1][1]:.4g}", "#333333", small)
    return image


def _ticks(low: float, high: float, count: int = 5) -> Iterator[float]:
    """Yield round numbers between two ends, about `count`."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    while first * step <= high:
        yield first * step
        first += 1
