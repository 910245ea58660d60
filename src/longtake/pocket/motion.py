"""Motions of a sprite: position, size and angle as functions of the seconds since the motion began.

Units: the shorter side of the screen spans [-1, 1], x to the right, y down; opposite edges meet. Angles are in radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

FPS = 24  # frames per second
DRIFT = 0.75  # units per second
BOUNCE = 1.5  # seconds per hop
ORBIT = 2.6  # seconds per round
SPIN = 2.4  # seconds per turn
PULSE = 1.6  # seconds per breath
SWAY = 1.9  # seconds per swing
FLOOR, HOP = 0.5, 0.8  # y at which a bounce lands, and its height
RADIUS, SWING, SWELL = 0.5, 0.4, 0.35  # amplitudes of an orbit, a sway and a pulse

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Path:
    """Position, size and angle of a sprite over time, each (T,): x, y in units, growth a factor on its size, turn in radians."""

    x: Array
    y: Array
    growth: Array
    turn: Array


def move(motion: str, home: tuple[float, float], phase: float, seconds: Array) -> Path:
    """Return the path of a motion. home: start position of a relative motion; phase in [0, 1): start of a periodic one."""
    zero = np.zeros_like(seconds)
    x, y, growth, turn = zero + home[0], zero + home[1], zero + 1, zero
    angle: Array | float = 2 * np.pi * phase
    if motion in DIRECTIONS:
        across, down = DIRECTIONS[motion]
        x, y = x + across * DRIFT * seconds, y + down * DRIFT * seconds
    elif motion == "bounce":
        y = FLOOR - HOP * np.abs(np.sin(np.pi * (seconds / BOUNCE + phase)))
    elif motion == "orbit":
        angle = angle + 2 * np.pi * seconds / ORBIT
        x, y = RADIUS * np.cos(angle), RADIUS * np.sin(angle)
    elif motion == "spin":
        turn = 2 * np.pi * seconds / SPIN
    elif motion == "pulse":
        growth = 1 + SWELL * np.sin(2 * np.pi * seconds / PULSE + angle)
    elif motion == "sway":
        x = x + SWING * np.sin(2 * np.pi * seconds / SWAY)
    return Path(x, y, growth, turn)


def entry_phase(motion: str, x: float, y: float) -> float:
    """Return the phase at which a motion passes closest to a position, so that the sprite does not jump at a switch."""
    if motion == "orbit":
        return float(np.arctan2(y, x) / (2 * np.pi)) % 1.0
    if motion == "bounce":
        return float(np.arcsin(np.clip((FLOOR - y) / HOP, 0, 1)) / np.pi)
    return 0.0


def wrap(distance: Array | float, reach: float = 1.0) -> Array | float:
    """Return a distance the short way round a screen of half-width `reach`, in [-reach, reach)."""
    return (distance + reach) % (2 * reach) - reach


def ease(seconds: Array, duration: float) -> Array:
    """Return a smooth step from 0 at the start to 1 at `duration`."""
    part = np.clip(seconds / duration, 0, 1)
    return part * part * (3 - 2 * part)
