"""A plan as a picture: which latent frame is how noisy before which model call. Pure: drawn by terminal.py and png.py.

Columns are latent frames of the whole video, rows are model calls. Windows that hand unfinished frames on (a staircase
under a sliding view) share a panel; where every frame in view is clean, a new panel begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from longtake.geometry import first_frame, frames_of_latents, latent_of_frame
from longtake.plan import Cut, Role, Window

Colour = tuple[int, int, int]
T = TypeVar("T")

HANDS = {"latents": "latents", "pixels": "pixels", "pixels8": "8-bit pixels", "floor8": "8-bit pixels"}

NOISE: tuple[Colour, ...] = ((255, 226, 150), (250, 163, 98), (221, 82, 115), (130, 44, 137), (44, 24, 84))
KNOWN: Colour = (38, 166, 154)
TOLD: Colour = (66, 135, 245)


@dataclass(frozen=True)
class Cell:
    """One latent frame before one model call."""

    level: float
    role: Role

    @property
    def colour(self) -> Colour:
        """From pale (video) to dark (noise); what is known is green, what is told beside x has a tinge of blue."""
        made = _blend(self.level)
        if self.role == "guide":
            return _mix(_mix(KNOWN, TOLD, 0.5), NOISE[-1], self.level)
        if self.role == "context":
            return _mix(KNOWN, NOISE[-1], min(1.0, 2 * self.level))
        return _mix(made, TOLD, 0.55) if self.role == "beside" else made

    @property
    def mark(self) -> str:
        """The same in black and white."""
        if self.level == 0:
            return {"context": "·", "guide": ":"}.get(self.role, " ")
        return " ░▒▓█"[min(4, int(self.level * 4 + 0.999))]


@dataclass
class Panel:
    """Windows first..last. calls: model calls before it. rows: {column: Cell} before each call, and after the last.

    fresh: output frames (first, last) that are new here. known: those that are known from before.
    """

    first: int
    calls: int
    take: int
    cut: Cut | None
    rows: list[dict[int, Cell]] = field(default_factory=list)
    last: int = 0
    fresh: tuple[int, int] | None = None
    known: tuple[int, int] | None = None

    @property
    def columns(self) -> range:
        """From the first column that is used to the last."""
        used = [column for row in self.rows for column in row]
        return range(min(used), max(used) + 1)

    @property
    def title(self) -> str:
        """What happens here, in a line."""
        name = f"window {self.first}" if self.last == self.first else f"windows {self.first} to {self.last}"
        parts = [f"makes frames {self.fresh[0]} to {self.fresh[1]}"] if self.fresh else []
        if self.known:
            parts.append(f"knows {self.known[0]} to {self.known[1]}")
        return f"{name}: {', '.join(parts)}"

    @property
    def opening(self) -> str | None:
        """How a new take begins, in a line; None if the take goes on."""
        if self.cut is None:
            return None
        if not self.cut.seam:
            return f"cut to take {self.take + 1}: a new shot"
        frames = f"the last {self.cut.seam} frames" if self.cut.seam > 1 else "the last frame"
        return f"cut to take {self.take + 1}: told {frames} as {HANDS[self.cut.hand]}"


def panels(windows: Iterable[Window], stride: int, most: int | None = None) -> Iterator[Panel]:
    """Windows as panels; at most `most` windows are taken."""
    start, end, take, calls = 0, 0, 0, 0  # first output frame of the take, frames made, take number, calls so far
    seen: set[int] = set()
    panel: Panel | None = None
    for number, window in enumerate(islice(windows, most), 1):
        if window.cut is not None:
            start, take, seen = end - window.cut.seam, take + 1, set()
        shown = [f for f, role in zip(window.frames, window.role) if role != "guide"]
        old = [f for f, role in zip(shown, window.role) if f in seen or role != "make"]
        if panel is None:
            panel = Panel(number, calls, take, window.cut, known=_span(old, start, stride))
        fresh = _span([f for f in shown if f not in old], start, stride)
        if fresh:
            panel.fresh = (panel.fresh or fresh)[0], fresh[1]
        _add(panel, window, latent_of_frame(start, stride))
        panel.last, calls = number, calls + window.calls
        end = max(end, start + frames_of_latents(shown[-1] + 1, stride))
        seen.update(shown)
        if not bool(window.levels[-1].any()):
            yield panel
            panel = None
    if panel is not None:
        yield panel


def _add(panel: Panel, window: Window, base: int) -> None:
    """Append the rows; the first of them is the last of the window before, as it looks now."""
    if panel.rows:
        panel.rows.pop()
    columns = [base + frame for frame in window.frames]
    for levels in window.levels.tolist():
        panel.rows.append({c: Cell(level, role) for c, level, role in zip(columns, levels, window.role)})


def _span(latents: list[int], start: int, stride: int) -> tuple[int, int] | None:
    """The output frames of latent frames of a take that starts at output frame `start`."""
    if not latents:
        return None
    return start + first_frame(latents[0], stride), start + frames_of_latents(latents[-1] + 1, stride) - 1


def thinned(rows: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` rows, evenly spaced, the first and the last always among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _blend(level: float) -> Colour:
    """The colour of a noise level."""
    place = level * (len(NOISE) - 1)
    i = min(int(place), len(NOISE) - 2)
    return _mix(NOISE[i], NOISE[i + 1], place - i)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b))
    return red, green, blue
