"""The flags of `generate` and `extend` about the video that no options class has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longtake.core.options import LENGTH, MEMORY, OUTPUT, QUALITY, STRATEGY, WHAT, option


@dataclass(frozen=True)
class VideoCommand:
    """The flags of `generate` and `extend` about the video that the command line alone has."""

    script: Path | None = option(
        None, "Prompts over time: a .txt file with one per line, or a .toml file of scenes.", WHAT
    )
    like: Path | None = option(
        None, "Video of longtake to generate again, with the settings that it carries; other flags replace some of them.",
        WHAT,
    )  # fmt: skip
    size: str | None = option(
        None, "WIDTHxHEIGHT in pixels, such as 832x480 for landscape (default: the model's).", LENGTH
    )
    model: str = option(
        "pocket",
        "A name from `longtake models`, a checkpoint folder or a hub id.",
        QUALITY,
    )
    lora: tuple[str, ...] = option((), "LoRA file for all scenes, as FILE or FILE=STRENGTH; may be repeated.", QUALITY)
    strategy: str | None = option(
        None, "Strategy for long video (default: the model's; see `longtake plan`). `--strategy NAME --help` lists its "
        "own options, such as --window and --overlap.", STRATEGY,
    )  # fmt: skip
    threads: int | None = option(
        None,
        "CPU threads (default: OMP_NUM_THREADS, else up to 4 of the available CPUs, or 1 if that is faster). Results "
        "differ in the last bits between thread counts; a resume keeps the count.",
        MEMORY,
    )
    seed: int | str = option(
        0, "Seed of the noise; equal seeds and options give equal bytes. random (or -1) draws one.", QUALITY,
        kind="int or random",
    )  # fmt: skip
    no_metadata: bool = option(False, "Leave the settings out of the video file.", OUTPUT)
