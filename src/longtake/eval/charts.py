"""Drift curves drawn as an SVG: a panel per metric, a line per arm, a band of one standard error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from torch import Tensor

from longtake.metrics import Metric

COLOURS = ("#c0392b", "#2471a3", "#239b56", "#b9770e", "#7d3c98", "#117a65", "#5d6d7e")
COLUMNS, WIDE, TALL = 3, 340, 200  # panels side by side, and pixels of one
Curves = Mapping[str, Tensor]  # {arm: (V videos, N segments)}


def drift_chart(curves: Mapping[str, Mapping[str, Tensor]], metrics: Mapping[str, Metric]) -> str:
    """Return the drift curves {arm: {metric: (V videos, N segments)}} of some metrics as an SVG."""
    rows = -(-len(metrics) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * WIDE}" height="{rows * TALL + 40}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for number, (name, metric) in enumerate(metrics.items()):
        panel = Panel(number % COLUMNS * WIDE, number // COLUMNS * TALL)
        parts += panel.drawn(metric.title, {arm: table[name] for arm, table in curves.items()})
    for number, arm in enumerate(curves):
        x, y = 40 + number * 160, rows * TALL + 22
        parts.append(f'<rect x="{x}" y="{y - 9}" width="18" height="4" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 24}" y="{y - 4}">{escape(arm)}</text>')
    return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class Panel:
    """The place of one metric's curves in the picture: its left and top edge in pixels."""

    left: int
    top: int

    def drawn(self, title: str, curves: Curves) -> list[str]:
        """Return the SVG elements of a title, axes, and a line with its band per arm."""
        lines = [(c.double().mean(0), c.double().std(0, correction=0) / len(c) ** 0.5) for c in curves.values()]
        most = max(float((mean + error).max()) for mean, error in lines) or 1.0
        count = max(len(mean) for mean, _ in lines)
        left, top = self.left, self.top
        floor = self._y(0.0, most)
        parts = [
            f'<text x="{left + 40}" y="{top + 20}" font-weight="bold">{escape(title)}</text>',
            f'<line x1="{left + 40}" y1="{floor:.1f}" x2="{left + WIDE - 20}" y2="{floor:.1f}" stroke="#999"/>',
            f'<text x="{left + 4}" y="{self._y(most, most) + 4:.1f}">{most:.2g}</text>',
            f'<text x="{left + 24}" y="{floor + 4:.1f}">0</text>',
            f'<text x="{left + WIDE - 90}" y="{top + TALL - 10}">segment {count}</text>',
        ]
        for number, (mean, error) in enumerate(lines):
            colour = COLOURS[number % len(COLOURS)]
            band = self._points(mean + error, most) + self._points((mean - error).clamp_min(0), most)[::-1]
            parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.15"/>')
            line = " ".join(self._points(mean, most))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        return parts

    def _points(self, values: Tensor, most: float) -> list[str]:
        step = (WIDE - 60) / max(1, len(values) - 1)
        return [f"{self.left + 40 + i * step:.1f},{self._y(float(v), most):.1f}" for i, v in enumerate(values)]

    def _y(self, value: float, most: float) -> float:
        return self.top + TALL - 28 - value / most * (TALL - 60)
