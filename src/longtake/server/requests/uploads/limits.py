"""How large a file that a client sends may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediaLimits:
    """Limits of images, videos and sounds. pixels: of an image; frame_pixels: of a frame of a video. text: characters.

    seconds, frames: of a video or a sound. memory (bytes), cpu and wall (seconds): of the process that decodes the file.
    """

    pixels: int = 1 << 26
    frame_pixels: int = 1 << 25
    seconds: float = 1200.0
    frames: int = 72_000
    text: int = 1 << 22
    memory: int = 3 << 30
    cpu: int = 30
    wall: float = 60.0
