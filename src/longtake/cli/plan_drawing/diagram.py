"""A plan as a diagram: the sigma of every latent frame before every model call; terminal.py and png.py draw it.

Columns are latent frames of the whole video, rows are model calls. Windows that share unfinished frames (a staircase
under a sliding view) share a panel; where every frame in view is clean, a new panel starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from longtake.core.geometry import first_frame, frames_of_latents, latent_of_frame
from longtake.planning.window import Cut, Role, Window

Colour = tuple[int, int, int]
T = TypeVar("T")

HANDOFFS = {"latents": "latents", "pixels": "pixels", "pixels-uint8": "8-bit pixels", "pixels-floor8": "8-bit pixels"}

NOISE: tuple[Colour, ...] = ((255, 226, 150), (250, 163, 98), (221, 82, 115), (130, 44, 137), (44, 24, 84))
CONTEXT: Colour = (38, 166, 154)
CONCAT: Colour = (66, 135, 245)
KEYFRAME: Colour = (142, 172, 30)


@dataclass(frozen=True)
class Cell:
    """One latent frame before one model call."""

    sigma: float
    role: Role

    @property
    def colour(self) -> Colour:
        """The colour: pale for video to dark for noise; context is green, keyframes are olive, channel-concatenated conditioning
        is bluish."""
        noise = _blend(self.sigma)
        if self.role == "keyframe":
            return _mix(KEYFRAME, NOISE[-1], self.sigma)
        if self.role == "context":
            return _mix(CONTEXT, NOISE[-1], min(1.0, 2 * self.sigma))
        return _mix(noise, CONCAT, 0.55) if self.role == "concat" else noise

    @property
    def mark(self) -> str:
        """The character in black and white."""
        if self.sigma == 0:
            return {"context": "·", "keyframe": ":"}.get(self.role, " ")
        return " ░▒▓█"[min(4, int(self.sigma * 4 + 0.999))]


@dataclass
class Panel:
    """Windows first to last. calls: model calls before it. rows: {column: Cell} before each call, and after the last.

    new: output frames (first, last) that are generated here. context: those that were generated before.
    """

    first: int
    calls: int
    clip: int
    cut: Cut | None
    rows: list[dict[int, Cell]] = field(default_factory=list)
    last: int = 0
    new: tuple[int, int] | None = None
    context: tuple[int, int] | None = None

    @property
    def columns(self) -> range:
        """The range of columns that are used."""
        used = [column for row in self.rows for column in row]
        return range(min(used), max(used) + 1)

    @property
    def title(self) -> str:
        """One line on what the windows generate."""
        name = f"window {self.first}" if self.last == self.first else f"windows {self.first} to {self.last}"
        parts = [f"generates {_frames(self.new)}"] if self.new else []
        if self.context:
            parts.append(f"context {_frames(self.context)}")
        return f"{name}: {', '.join(parts)}"

    @property
    def opening(self) -> str | None:
        """One line on how a new clip starts; None if the clip continues."""
        if self.cut is None:
            return None
        if not self.cut.overlap:
            return f"cut to clip {self.clip + 1}: a new shot"
        frames = f"the last {self.cut.overlap} frames" if self.cut.overlap > 1 else "the last frame"
        return f"cut to clip {self.clip + 1}: conditioned on {frames} as {HANDOFFS[self.cut.handoff]}"


def panels(windows: Iterable[Window], stride: int, most: int | None = None) -> Iterator[Panel]:
    """Group windows into panels; `most` limits the number of windows."""
    start, end, clip, calls = (
        0,
        0,
        0,
        0,
    )  # the clip's first output frame, frames so far, clip number, model calls so far
    seen: set[int] = set()
    panel: Panel | None = None
    for number, window in enumerate(islice(windows, most), 1):
        if window.cut is not None:
            start, clip, seen = end - window.cut.overlap, clip + 1, set()
        shown = [f for f, role in zip(window.frames, window.role) if role != "keyframe"]
        old = [f for f, role in zip(shown, window.role) if f in seen or role != "generate"]
        if panel is None:
            panel = Panel(number, calls, clip, window.cut, context=_span(old, start, stride))
        new = _span([f for f in shown if f not in old], start, stride)
        if new:
            panel.new = (panel.new or new)[0], new[1]
        _add(panel, window, latent_of_frame(start, stride))
        panel.last, calls = number, calls + window.steps
        end = max(end, start + frames_of_latents(shown[-1] + 1, stride))
        seen.update(shown)
        if not bool(window.sigmas[-1].any()):
            yield panel
            panel = None
    if panel is not None:
        yield panel


def _add(panel: Panel, window: Window, base: int) -> None:
    """Append the rows of a window; its first row replaces the last row of the window before."""
    if panel.rows:
        panel.rows.pop()
    columns = [base + frame for frame in window.frames]
    for sigmas in window.sigmas.tolist():
        panel.rows.append({c: Cell(sigma, role) for c, sigma, role in zip(columns, sigmas, window.role)})


def _span(latents: list[int], start: int, stride: int) -> tuple[int, int] | None:
    """Return the output frames (first, last) of latent frames of a clip that starts at output frame `start`."""
    if not latents:
        return None
    return start + first_frame(latents[0], stride), start + frames_of_latents(latents[-1] + 1, stride) - 1


def legend(panels: Iterable[Panel]) -> dict[Colour, str]:
    """Return the colours beside those of noise that these panels show, with what they mean; context is always listed."""
    roles = {cell.role for panel in panels for row in panel.rows for cell in row.values()}
    found = {CONTEXT: "context frames"}
    if "keyframe" in roles:
        found[KEYFRAME] = "keyframes"
    if "concat" in roles:
        found[CONCAT] = "concatenated by channel"
    return found


def _frames(span: tuple[int, int]) -> str:
    """Name output frames (first, last): `frame 96`, `frames 81 to 96`."""
    first, last = span
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def thinned(rows: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` rows, evenly spaced, with the first and the last."""
    if len(rows) <= most:
        return rows
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _blend(sigma: float) -> Colour:
    """Return the colour of a sigma."""
    position = sigma * (len(NOISE) - 1)
    i = min(int(position), len(NOISE) - 2)
    return _mix(NOISE[i], NOISE[i + 1], position - i)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b))
    return red, green, blue
