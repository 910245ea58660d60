"""The kinds of video files that can be written, by their endings. Importing this needs neither FFmpeg nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from longtake.core.errors import SettingsError

Codec = Literal["h264", "hevc", "av1"]
DEFAULT_CRF = {"h264": 18, "hevc": 22, "av1": 28}  # of about equal quality
MOST_CRF = {"h264": 51, "hevc": 51, "av1": 63}
WEB = ".webm"  # which holds AV1 and Opus, and neither H.264 nor AAC
CONTAINERS = (".mp4", ".m4v", ".mov", ".mkv", WEB)
ANIMATIONS = (".gif", ".webp")


def codec_of(path: Path, codec: str) -> Any:
    """Return the codec that a file of this ending has where `codec` is asked for."""
    return "av1" if path.suffix.lower() == WEB and codec == "h264" else codec


def check_file(path: Path, codec: str, crf: int | None, sound: bool = False) -> None:
    """Raise SettingsError for an ending, codec or crf that cannot be. sound: the file is to have some."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS + ANIMATIONS:
        raise SettingsError(f"{path}: a video file ends with {', '.join(CONTAINERS + ANIMATIONS)}")
    if suffix in ANIMATIONS and sound:
        raise SettingsError(f"{path}: a {suffix[1:]} file has no sound: write an .mp4, or leave audio out")
    if codec not in DEFAULT_CRF:
        raise SettingsError(f"codec must be one of {', '.join(DEFAULT_CRF)}, not {codec!r}")
    if suffix == WEB and codec == "hevc":
        raise SettingsError(f"{path}: a webm file has no HEVC: use codec av1, or write an .mp4")
    codec = codec_of(path, codec)
    if crf is not None and not 0 <= crf <= MOST_CRF[codec]:
        raise SettingsError(f"crf must be between 0 and {MOST_CRF[codec]} for {codec}, not {crf}")
