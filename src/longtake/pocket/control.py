"""Control signals of the pocket world: a voice that swells the sprite, or a path that the sprite follows.

Each is a smooth function of the seconds since the clip began and of the clip's seed. It stands for the loudness of a
sound file or for a pose, and its rows condition a network frame by frame.
"""

from __future__ import annotations

import random

import numpy as np

from longtake.pocket.motion import Array, Path

DRIVES = {"voice": 1, "path": 2}  # numbers per frame: loudness in [0, 1]; position x, y in units
SYLLABLES = 1.7  # syllables per second, on average
LEAST, MOST = 0.7, 1.3  # factor on the sprite's size at silence and at full loudness
REACH = 0.3  # amplitude of each of the two oscillations of a path, in units


def control_signal(drive: str, seed: int, seconds: Array) -> Array:
    """Return the control signal (T, D) of the clip with this seed at `seconds` (T,)."""
    rng = random.Random(f"{drive} {seed}")
    if drive == "voice":
        return _voice(rng, seconds)[:, None]
    return np.stack([_swings(rng, seconds), _swings(rng, seconds)], 1)


def driven_path(drive: str, rows: Array, home: tuple[float, float]) -> Path:
    """Return the path of a sprite that follows the control signal (T, D); a voice leaves it at its start position `home`."""
    still = np.zeros(len(rows))
    if drive == "voice":
        return Path(still + home[0], still + home[1], LEAST + (MOST - LEAST) * rows[:, 0], still)
    return Path(rows[:, 0], rows[:, 1], still + 1, still)


def _voice(rng: random.Random, seconds: Array) -> Array:
    """Return a loudness (T,) in [0, 1]: syllables of uneven length in phrases with pauses."""
    phase = SYLLABLES * seconds + rng.random()
    for rate in (0.31, 0.83):
        phase = phase + 0.25 * np.sin(2 * np.pi * (rate * seconds + rng.random()))
    phrase = np.clip(0.6 + np.sin(2 * np.pi * (rng.uniform(0.15, 0.3) * seconds + rng.random())), 0, 1)
    return phrase * (0.5 - 0.5 * np.cos(2 * np.pi * phase))


def _swings(rng: random.Random, seconds: Array) -> Array:
    """Return a coordinate (T,): the sum of two slow oscillations."""
    swings = [
        np.sin(2 * np.pi * (rng.uniform(*rates) * seconds + rng.random())) for rates in ((0.1, 0.2), (0.25, 0.45))
    ]
    return REACH * (swings[0] + swings[1])
