"""generate: a video from a prompt or a script."""

from __future__ import annotations

from longtake.cli.flags.strategy import print_strategy_help
from longtake.cli.flags.video import Prompt, video_flags, video_order

__all__ = ["generate", "print_strategy_help"]
Flags = video_flags()


def generate(prompt: Prompt = None, *, flags: Flags = None) -> int:  # type: ignore[valid-type]
    """Generate a video from a prompt or a script."""
    from longtake.cli.generation.new_videos import make_videos

    return make_videos(video_order("generate", prompt, flags))
