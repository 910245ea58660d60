"""What can drive a sprite from outside: a voice that swells it, or a path that it follows.

Each is a smooth function of the seconds since a clip began, fixed by the clip's seed: what a person who makes a video
would read from a sound file or from a pose. The rows are what a network is told beside the video.
"""

from __future__ import annotations

import random

import numpy as np

from longtake.world.motion import Array, Path

DRIVES = {"voice": 1, "path": 2}  # numbers per frame: loudness in [0, 1]; place x, y in units of the screen
SYLLABLES = 1.7  # per second, about
LEAST, MOST = 0.7, 1.3  # size of a silent and of a loud sprite, as a factor
REACH = 0.3  # of each of the two swings that make a path, in units


def track(drive: str, seed: int, seconds: Array) -> Array:
    """The rows (T, D) that drive a clip of this seed."""
    rng = random.Random(f"{drive} {seed}")
    if drive == "voice":
        return _voice(rng, seconds)[:, None]
    return np.stack([_swings(rng, seconds), _swings(rng, seconds)], 1)


def follow(drive: str, rows: Array, home: tuple[float, float]) -> Path:
    """Where a sprite is that follows the rows; a voice leaves it at home."""
    still = np.zeros(len(rows))
    if drive == "voice":
        return Path(still + home[0], still + home[1], LEAST + (MOST - LEAST) * rows[:, 0], still)
    return Path(rows[:, 0], rows[:, 1], still + 1, still)


def _voice(rng: random.Random, seconds: Array) -> Array:
    """Loudness (T,): syllables of uneven length in phrases with pauses."""
    phase = SYLLABLES * seconds + rng.random()
    for rate in (0.31, 0.83):
        phase = phase + 0.25 * np.sin(2 * np.pi * (rate * seconds + rng.random()))
    phrase = np.clip(0.6 + np.sin(2 * np.pi * (rng.uniform(0.15, 0.3) * seconds + rng.random())), 0, 1)
    return phrase * (0.5 - 0.5 * np.cos(2 * np.pi * phase))


def _swings(rng: random.Random, seconds: Array) -> Array:
    """A coordinate (T,): two slow swings."""
    swings = [
        np.sin(2 * np.pi * (rng.uniform(*rates) * seconds + rng.random())) for rates in ((0.1, 0.2), (0.25, 0.45))
    ]
    return REACH * (swings[0] + swings[1])
