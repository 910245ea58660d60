"""extend: new frames behind an existing video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from longtake.cli.flags.options import parameter
from longtake.cli.flags.strategy import print_strategy_help
from longtake.cli.flags.video import Prompt, video_flags, video_order
from longtake.core.options import WHAT

__all__ = ["extend", "print_strategy_help"]
Flags = video_flags("image", "input_video")
Video = Annotated[Path, parameter("Video file to continue; it is resized, cropped and resampled for the model.", WHAT)]


def extend(video: Video, prompt: Prompt = None, *, flags: Flags = None) -> int:  # type: ignore[valid-type]
    """Continue an existing video file: its own frames, then new ones."""
    from longtake.cli.generation.new_videos import make_videos
    from longtake.runs.target import video_to_extend

    return make_videos(video_order("extend", prompt, flags, video=video_to_extend(video)))
