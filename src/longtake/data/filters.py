"""Filters: which rules a shot breaks, and the search for near duplicates."""

from __future__ import annotations

from collections.abc import Iterator

from longtake.core.units import pixels
from longtake.data.rules import Rules
from longtake.data.shots.analysis import Analysis, Shot
from longtake.data.shots.metrics import fingerprint_distance

DUPLICATE_BITS = 7  # of 128 in which the fingerprints of duplicates may differ, see DuplicateIndex
BAND = 16  # bits
LENGTH_TOLERANCE = 0.05  # share by which the lengths of duplicates may differ


def broken_rules(rules: Rules, shot: Shot, file: Analysis) -> Iterator[tuple[str, str]]:
    """Yield (rule, how it is broken) for every rule that a shot breaks."""
    found, side = shot.metrics, min(file.size)
    if shot.seconds < rules.min_seconds:
        yield "short", f"{shot.seconds:.2f} s, at least {rules.min_seconds:g}"
    if side < rules.min_side:
        yield "small", f"{pixels(file.size)}, shorter side at least {rules.min_side}"
    if found.damaged:
        yield "damaged", f"{found.damaged} of {shot.stop - shot.start} frames"
    if not found.fingerprint:
        return  # the shot is too short for a sample
    if found.brightness < rules.min_brightness:
        yield "dark", f"brightness {found.brightness:.1f}, at least {rules.min_brightness:g}"
    if found.brightness > rules.max_brightness:
        yield "bright", f"brightness {found.brightness:.1f}, at most {rules.max_brightness:g}"
    if found.sharpness < rules.min_sharpness:
        yield "blurred", f"sharpness {found.sharpness:.1f}, at least {rules.min_sharpness:g}"
    if found.motion < rules.min_motion:
        yield "still", f"motion {found.motion:.2f}, at least {rules.min_motion:g}"


class DuplicateIndex:
    """The fingerprints of the shots kept so far, to find near duplicates.

    Two fingerprints of 128 bits that differ in at most 7 bits agree in one of their 8 bands, so only shots with an equal
    band are compared.
    """

    def __init__(self) -> None:
        self._bands: dict[tuple[int, int], list[tuple[str, float, str]]] = {}

    def find(self, fingerprint: str, seconds: float) -> str | None:
        """Return the name of a shot that looks alike and lasts nearly as long; None if there is none."""
        for band in self._split(fingerprint):
            for other, length, name in self._bands.get(band, ()):
                alike = fingerprint_distance(fingerprint, other) <= DUPLICATE_BITS
                if alike and abs(length - seconds) <= LENGTH_TOLERANCE * max(length, seconds):
                    return name
        return None

    def add(self, fingerprint: str, seconds: float, name: str) -> None:
        """Add a shot; one with an empty fingerprint is never found."""
        for band in self._split(fingerprint):
            self._bands.setdefault(band, []).append((fingerprint, seconds, name))

    def _split(self, fingerprint: str) -> list[tuple[int, int]]:
        bits = int(fingerprint, 16) if fingerprint else 0
        return [(n, bits >> (BAND * n) & (1 << BAND) - 1) for n in range(128 // BAND if fingerprint else 0)]
