"""Which shots are worth learning from: rules, and the reasons why a shot breaks them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from longtake.data.analysis import Analysis, Shot
from longtake.data.measures import distance

SAME = 7  # bits of 128 in which the looks of duplicates may differ; see Seen
BAND = 16  # bits


class RuleError(ValueError):
    """A rule that cannot be."""


@dataclass(frozen=True)
class Rules:
    """Limits that a shot must keep to be kept; 0 turns a lower limit off. What is measured: see measures.Measures.

    seconds: length at least. side: pixels of the shorter side at least. sharpness, motion: at least.
    dark, bright: brightness between them. text: share of the picture that may be text (None: not looked at).
    duplicates: drop shots that look like an earlier one of nearly the same length.
    """

    seconds: float = 1.0
    side: int = 240
    sharpness: float = 12.0
    motion: float = 0.4
    dark: float = 16.0
    bright: float = 239.0
    text: float | None = None
    duplicates: bool = False

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise RuleError(f"{limit.name} must be 0 or more, not {value}")
        if self.dark >= self.bright:
            raise RuleError(f"dark ({self.dark:g}) must lie below bright ({self.bright:g})")


def broken(rules: Rules, shot: Shot, file: Analysis) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong) of every rule that a shot breaks."""
    found, side = shot.measures, min(file.size)
    if shot.seconds < rules.seconds:
        yield "short", f"{shot.seconds:.2f} s, at least {rules.seconds:g}"
    if side < rules.side:
        yield "small", f"{file.size[1]}x{file.size[0]}, shorter side at least {rules.side}"
    if file.hdr:
        yield "hdr", "HDR: tone-map it first"
    if found.damaged:
        yield "damaged", f"{found.damaged} of {shot.stop - shot.start} frames"
    if not found.look:
        return  # too short to have been measured
    if found.brightness < rules.dark:
        yield "dark", f"brightness {found.brightness:.1f}, at least {rules.dark:g}"
    if found.brightness > rules.bright:
        yield "bright", f"brightness {found.brightness:.1f}, at most {rules.bright:g}"
    if found.sharpness < rules.sharpness:
        yield "blurred", f"sharpness {found.sharpness:.1f}, at least {rules.sharpness:g}"
    if found.motion < rules.motion:
        yield "still", f"motion {found.motion:.2f}, at least {rules.motion:g}"


class Seen:
    """The shots kept so far, to find duplicates among them.

    Two looks of 128 bits that differ in at most 7 agree in one of their 8 bands, so only shots with an equal band are
    compared.
    """

    def __init__(self) -> None:
        self._bands: dict[tuple[int, int], list[tuple[str, float, str]]] = {}

    def like(self, look: str, seconds: float) -> str | None:
        """The name of a shot that looks like this one and lasts nearly as long; a shot without a look is like none."""
        for band in self._split(look):
            for other, length, name in self._bands.get(band, ()):
                if distance(look, other) <= SAME and abs(length - seconds) <= 0.05 * max(length, seconds):
                    return name
        return None

    def add(self, look: str, seconds: float, name: str) -> None:
        """Remember a shot."""
        for band in self._split(look):
            self._bands.setdefault(band, []).append((look, seconds, name))

    def _split(self, look: str) -> list[tuple[int, int]]:
        bits = int(look, 16) if look else 0
        return [(n, bits >> (BAND * n) & (1 << BAND) - 1) for n in range(128 // BAND if look else 0)]
