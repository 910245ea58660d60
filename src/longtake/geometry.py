"""Seconds, output frames and latent frames into each other; the causal first frame lives in this one place.

A causal codec of stride s keeps one output frame in latent 0 and s output frames in every later latent.
Frames and latents are counted from 0 at the start of a take.
"""

from __future__ import annotations

import math
from fractions import Fraction

MOST_FRAMES = 10**12  # over a thousand years at 24 frames per second


def frames_of_seconds(seconds: float, fps: float) -> int:
    """Output frames that last `seconds`, at least 1. ValueError if seconds or fps is not a positive finite number."""
    for name, value in (("seconds", seconds), ("fps", fps)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value}")
    if seconds * fps > MOST_FRAMES:
        raise ValueError(f"{seconds:g} s are more than any disk holds: give fewer seconds, or let it run --endless")
    return max(1, round(Fraction(seconds) * Fraction(fps)))


def latents_of_frames(frames: int, stride: int) -> int:
    """Latent frames that hold at least `frames` output frames."""
    return 0 if frames <= 0 else 1 + -(-(frames - 1) // stride)


def frames_of_latents(latents: int, stride: int) -> int:
    """Output frames held by the first `latents` latent frames of a take."""
    return 0 if latents <= 0 else 1 + stride * (latents - 1)


def first_frame(latent: int, stride: int) -> int:
    """First output frame of a latent frame."""
    return frames_of_latents(latent, stride)


def place_of_frame(frame: int, stride: int) -> float:
    """Where an output frame stands, in latent frames: whole where a latent begins; frames before the first too."""
    return frame / stride if frame <= 0 else 1 + (frame - 1) / stride


def latent_of_frame(frame: int, stride: int) -> int:
    """The latent frame that holds an output frame."""
    return 0 if frame <= 0 else 1 + (frame - 1) // stride


def is_whole(frames: int, stride: int) -> bool:
    """Whether `frames` output frames from the start of a take fill whole latents (1 + stride * k)."""
    return frames >= 1 and (frames - 1) % stride == 0


def nearest_whole(frames: int, stride: int) -> tuple[int, int]:
    """The whole frame counts just below and just above `frames` (equal if it is whole)."""
    below = frames_of_latents(max(1, latents_of_frames(frames + 1, stride) - 1), stride)
    return min(below, max(frames, 1)) if is_whole(frames, stride) else below, frames_of_latents(
        latents_of_frames(max(frames, 1), stride), stride
    )
