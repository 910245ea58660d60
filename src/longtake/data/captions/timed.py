"""Captions over time: what the captions of a video say about one of its shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longtake.data.captions.caption import Caption

CaptionTrack = Sequence[tuple[float, Caption]]  # (seconds from the beginning of a video, caption from then on)
ROUNDING = 1e-6  # seconds


@dataclass(frozen=True)
class ShotCaption:
    """The caption of a shot. source: who wrote it. later: (seconds from the start of the shot, caption from then on)."""

    caption: Caption
    source: str = ""
    later: Sequence[tuple[float, str]] = ()


def caption_of_shot(track: CaptionTrack, source: str, start: float, seconds: float) -> ShotCaption:
    """Return the caption of a shot that begins at second `start` of a video and lasts `seconds`."""
    caption = Caption()
    for second, text in track:
        if second <= start + ROUNDING:
            caption = text
    inside = [(round(second - start, 6), text) for second, text in track if second > start + ROUNDING]
    later = [(second, text.sentence()) for second, text in inside if second < seconds]
    return ShotCaption(caption, source if caption else "", later)
