"""Geometry of time: seconds, output frames and latent frames, converted into each other.

A causal VAE of temporal compression s keeps one output frame in latent 0 and s output frames in every later latent; no
other module has that exception. Frames and latents are counted from 0 at the start of a clip.
"""

from __future__ import annotations

import math
from fractions import Fraction

from longtake.core.errors import SettingsError

MOST_FRAMES = 10**12  # over a thousand years at 24 frames per second


def frames_of_seconds(seconds: float, fps: float) -> int:
    """Count the output frames of a duration, at least 1. SettingsError unless both are positive finite numbers."""
    for name, value in (("seconds", seconds), ("fps", fps)):
        if not 0 < value < math.inf:
            raise SettingsError(f"{name} must be a positive number, not {value}")
    if Fraction(seconds) * Fraction(fps) > MOST_FRAMES:  # not as floats, which a long whole number overflows
        raise SettingsError(
            f"so many seconds are over {MOST_FRAMES:,} frames, more than any disk holds: ask for less, or use --endless"
        )
    return max(1, round(Fraction(seconds) * Fraction(fps)))


def latents_of_frames(frames: int, temporal_compression: int) -> int:
    """Count the latent frames that hold at least `frames` output frames."""
    return 0 if frames <= 0 else 1 + -(-(frames - 1) // temporal_compression)


def frames_of_latents(latents: int, temporal_compression: int) -> int:
    """Count the output frames in the first `latents` latent frames of a clip."""
    return 0 if latents <= 0 else 1 + temporal_compression * (latents - 1)


def first_frame(latent: int, temporal_compression: int) -> int:
    """Return the first output frame of a latent frame."""
    return frames_of_latents(latent, temporal_compression)


def place_of_frame(frame: int, temporal_compression: int, causal: bool = True) -> float:
    """Return the position of an output frame in latent frames; it may be negative.

    causal: the position of a latent is that of its first frame, so that it is whole at the start of a latent. Otherwise
    latents are `temporal_compression` frames apart from the first one on (LTX-Video before 0.9.5).
    """
    if frame <= 0 or not causal:
        return frame / temporal_compression
    return 1 + (frame - 1) / temporal_compression


def latent_of_frame(frame: int, temporal_compression: int) -> int:
    """Return the latent frame that holds an output frame."""
    return 0 if frame <= 0 else 1 + (frame - 1) // temporal_compression


def is_whole(frames: int, temporal_compression: int) -> bool:
    """Say whether output frames from the start of a clip fill whole latents (1 + temporal_compression * k)."""
    return frames >= 1 and (frames - 1) % temporal_compression == 0


def nearest_whole(frames: int, temporal_compression: int) -> tuple[int, int]:
    """Return the whole numbers of frames just below and just above `frames` (equal if it is whole)."""
    below = frames_of_latents(max(1, latents_of_frames(frames + 1, temporal_compression) - 1), temporal_compression)
    return min(below, max(frames, 1)) if is_whole(frames, temporal_compression) else below, frames_of_latents(
        latents_of_frames(max(frames, 1), temporal_compression), temporal_compression
    )
