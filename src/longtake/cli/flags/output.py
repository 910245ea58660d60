"""The flags about what a command writes and prints."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.cli.preview.pictures import check_preview
from longtake.core.errors import SettingsError
from longtake.core.options import OUTPUT, option
from longtake.media.finished.file_kinds import MOST_CRF, check_file, codec_of
from longtake.runs.files.output_record import FinishedFile

if TYPE_CHECKING:
    from longtake.media.video_io import Encoding

LARGEST_SEED = 2**31
MOST_VIDEOS = 999  # of one command


@dataclass(frozen=True)
class OutputOptions:
    """Where a command writes its videos and how many, and how the finished file is encoded."""

    output: Path | None = option(
        None, "Video file (.mp4, .mov, .mkv, .webm, .gif, .webp), with the run beside it as NAME.run/, or run directory (default: "
        "out/PROMPT-001).", OUTPUT, short="o",
    )  # fmt: skip
    count: int = option(1, "Videos to make, each of another seed, and a contact sheet of all.", OUTPUT)
    codec: str = option(
        "h264", "Video codec; hevc and av1 encode the finished file once more.", OUTPUT,
        choices=("h264", "hevc", "av1"),
    )  # fmt: skip
    crf: int | None = option(
        None, "Quality of the finished file, 0 is best (default: 18; hevc 22, av1 28).", OUTPUT
    )  # fmt: skip
    audio: Path | None = option(None, "Sound file for the finished file, cut to its length.", OUTPUT)
    no_keep: bool = option(False, "Keep only the finished file; the run lies in the cache until then.", OUTPUT)
    overwrite: bool = option(False, "Start anew, and replace what --output names.", OUTPUT)

    def __post_init__(self):
        if not 1 <= self.count <= MOST_VIDEOS:
            raise SettingsError(f"--count must be a number from 1 to {MOST_VIDEOS}, not {self.count}")
        most = MOST_CRF[self.final_codec]
        if self.crf is not None and not 0 <= self.crf <= most:
            raise SettingsError(f"--crf must be from 0 to {most} for {self.final_codec}, not {self.crf}")

    @property
    def final_codec(self) -> str:
        """The codec of the finished file, which the ending of its name may decide."""
        file = self.output
        return self.codec if file is None or file.is_dir() else str(codec_of(file, self.codec))

    @property
    def as_file(self) -> bool:
        """Whether there must be a finished file besides the run, also where --output names a folder or nothing."""
        return self.no_keep or self.audio is not None or self.codec != "h264"

    @property
    def encoding(self) -> Encoding:
        """The encoding of the segments: H.264, with the quality that is asked for if the finished file is H.264 too."""
        from longtake.media.video_io import Encoding  # imports torch

        return Encoding() if self.crf is None or self.final_codec != "h264" else Encoding(crf=self.crf)

    def finished(self, file: Path | None) -> FinishedFile:
        """Return how the finished file is written. SettingsError if it cannot be."""
        if file is None:
            return FinishedFile()
        check_file(file, self.codec, self.crf, sound=self.audio is not None)
        audio = None if self.audio is None else str(self.audio.absolute())
        crf = None if self.final_codec == "h264" else self.crf
        return FinishedFile(str(file), self.codec, crf, audio, not self.no_keep, self.overwrite)


@dataclass(frozen=True)
class ShowOptions:
    """What a command prints, and what it must not do."""

    dry_run: bool = option(False, "Show the plan and its cost on this machine, and stop.", OUTPUT)
    verbose: bool = option(False, "Draw the plan too.", OUTPUT, short="v")
    offline: bool = option(False, "Download nothing.", OUTPUT)
    format: str = option("text", "text, or json for one event per line.", OUTPUT, choices=("text", "json"))

    preview: str | None = option(
        None, "Show the window that is being denoised: into an image file, twice a second, or as pictures in the terminal "
        "(terminal; or kitty, iterm, sixel or blocks, whichever it is).", OUTPUT,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_preview(self.preview)

    @property
    def json(self) -> bool:
        """Whether a program reads the output."""
        return self.format == "json"


def seeds_of(seed: int | str, count: int) -> list[int]:
    """Return the seeds of variations: counted from a number on, or drawn for "random" and -1."""
    if seed in ("random", -1):
        return [secrets.randbelow(LARGEST_SEED) for _ in range(count)]
    assert isinstance(seed, int)
    if seed < 0:
        raise SettingsError(f"--seed must be 0 or more, or random, not {seed}")
    return [seed + i for i in range(count)]


def command_words(command: str, arguments: list[str], options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of a command line with these options, each as one word: `--seconds=10`."""
    yield from (command, *arguments)
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        else:
            values = value if isinstance(value, tuple) else (value,)
            yield from (f"{flag}={one:g}" if isinstance(one, float) else f"{flag}={one}" for one in values)
