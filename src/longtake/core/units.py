"""Byte counts, durations, sizes of video and command lines as people read and type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NewType

from longtake.core.errors import PlanError, SettingsError
from longtake.core.platform import WINDOWS

MOST_SIDE = 16384  # pixels of a side, the most that H.264 encoders take
PLAIN = re.compile(r"[\w@%+=:,./-]+")  # a word that no shell changes
LITERAL = re.compile(r"""[^"$`\\!\n%]+""")  # a text that no shell changes between double quotes
PixelSize = NewType("PixelSize", str)  # WIDTHxHEIGHT in pixels, as the tables of a config hold it


def size(count: float) -> str:
    """Format a number of bytes: `13.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def parse_bytes(text: str, name: str) -> int:
    """Return the bytes of a text such as `2GB`, `1.5 GiB` or `500M`. SettingsError, which names the flag, if it is none."""
    match = re.fullmatch(r"([0-9.]{1,20})\s*([kmgt]?)(i?)b?", text.strip().lower())
    number = _number(match[1]) if match else None
    if not match or number is None:
        raise SettingsError(f"{name} must be a size such as 2GB or 500MB, not {text!r}")
    return round(number * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))


def parse_duration(text: str, name: str) -> float:
    """Return the seconds of a text such as `30d`, `12h` or `2 weeks`. SettingsError, which names the flag, if it is none."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
    match = re.fullmatch(
        r"([0-9.]{1,20})\s*(s|m|h|d|w|y|seconds?|min|minutes?|hours?|days?|weeks?|years?)", text.strip().lower()
    )
    number = _number(match[1]) if match else None
    if not match or number is None:
        raise SettingsError(f"{name} must be a length of time such as 30d, 12h or 2w, not {text!r}")
    return number * units[match[2][0]]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 window`, `3 windows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Format a length of time: `4.2 s`, `75 s`, `12 min`, `3.5 h`, `4 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:,.0f} days"


def speed_in_words(seconds: float, took: float) -> str:
    """Compare the length of a video with the time that it takes, both in seconds: `27 times slower than real time`."""
    faster, ratio = took < seconds, max(seconds, took) / max(1e-9, min(seconds, took))
    if ratio < 1.05:
        return "in real time"
    times = f"{ratio:,.0f}" if ratio >= 9.5 else f"{ratio:.1f}"
    return f"{times} times {'faster' if faster else 'slower'} than real time"


def pixels(size: Sequence[int]) -> str:
    """Format (height, width) in pixels as WIDTHxHEIGHT: `832x480`."""
    height, width = size
    return f"{width}x{height}"


def parse_pixels(text: object, name: str = "--size") -> tuple[int, int]:
    """Return (height, width) of a text WIDTHxHEIGHT, such as 832x480 or 832*480. SettingsError if it is something else.

    name: of the flag or key, for the error.
    """
    match = re.fullmatch(r"([0-9]{1,6})\s*[xX×*]\s*([0-9]{1,6})", text.strip()) if isinstance(text, str) else None
    if not match or not int(match[1]) * int(match[2]):
        raise SettingsError(f"{name} is WIDTHxHEIGHT in pixels, such as 832x480, not {text!r}")
    return int(match[2]), int(match[1])


def check_pixels(size: Sequence[int], units: Sequence[int | None]) -> None:
    """Raise PlanError, with the nearest size, unless (height, width) fills whole latents and fits into a video file.

    units: pixels of a latent, or of a token, in height and width.
    """
    whole = [unit or 1 for unit in units]
    near = pixels([min(MOST_SIDE // unit, max(1, round(side / unit))) * unit for side, unit in zip(size, whole)])
    if any(side > MOST_SIDE for side in size):
        raise PlanError(f"--size {pixels(size)} is too large: a side of a video has at most {MOST_SIDE} pixels")
    if any(side < 1 or side % unit for side, unit in zip(size, whole)):
        raise PlanError(f"--size {pixels(size)} is not whole latents of {pixels(whole)} pixels: use --size {near}")


def argument(path: Path) -> str:
    """Return a path as a word of a command line that is never taken for a flag."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def command_line(words: Iterable[str]) -> str:
    """Return words as one line that can be pasted into a shell; texts stand in double quotes where they can."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if PLAIN.fullmatch(word):
        return word
    if WINDOWS:  # whose shell knows no single quotes
        from subprocess import list2cmdline

        return list2cmdline([word])
    return f'"{word}"' if LITERAL.fullmatch(word) else shlex.quote(word)
