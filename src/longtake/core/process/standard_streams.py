"""Standard output and error that outlast a closed pipe, a full disk, a lost terminal and a terminal without Unicode.

A program that computes for hours must not end because nobody reads what it prints. `protect_streams` replaces
`sys.stdout` and `sys.stderr` once, so that every `print` and every library of this process goes through one place: what
cannot be written is dropped and noted, and a character that the terminal cannot show is replaced.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from dataclasses import dataclass
from typing import Any, TextIO

ENCODING_ERRORS = "longtake.substitute"
SUBSTITUTES = {
    "·": "-", "…": "...", "✂": "cut:", "∞": "endless", "×": "x", "█": "#", "▓": "%", "▒": "=", "░": ".", "▀": "^", "▄": "_",
    "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "─": "-", "│": "|", "•": "*",
}  # fmt: skip


@dataclass(frozen=True)
class StandardStreams:
    """What became of standard output and error. The field of a stream is None if Python's own is not replaced."""

    output: LastingFile | None
    error: LastingFile | None

    @property
    def lost_output(self) -> OSError | None:
        """Why standard output could not be written, after flushing it; None if everything was written."""
        sys.stdout.flush()
        return self.output.lost if self.output else None


class LastingFile(io.RawIOBase):
    """A raw file that drops what is written after the first error. name: in words. lost: that error."""

    def __init__(self, raw: io.RawIOBase, name: str):
        self.raw, self.words = raw, name
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or drop them; return their number."""
        view = memoryview(data).cast("B")
        at = 0
        while self.lost is None and at < len(view):
            try:
                written = self.raw.write(view[at:])
                if written is None:  # another process made the terminal or the pipe non-blocking
                    select.select([], [self.raw.fileno()], [], 1.0)
                at += written or 0
            except OSError as error:
                self.lost = error
                self._report(error)
        return len(view)

    def _report(self, error: OSError) -> None:
        """Say once on standard error that standard output cannot be written; a reader that left knows it already."""
        if self.words == "standard output" and error.errno != errno.EPIPE:
            print(f"note: standard output cannot be written ({error.strerror})", file=sys.stderr, flush=True)

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Whether this is a terminal."""
        return self.raw.isatty()

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self.raw.fileno()


def protect_streams() -> StandardStreams:
    """Replace `sys.stdout` and `sys.stderr` by streams that never fail; a program calls it first of all, and once.

    Streams that another program has put there already, such as those of a test, only get the replacement of characters.
    """
    codecs.register_error(ENCODING_ERRORS, substitute)
    _hold_descriptors()
    error, sys.stderr = _protected(sys.stderr, 2, "standard error")
    output, sys.stdout = _protected(sys.stdout, 1, "standard output")
    return StandardStreams(output, error)


def substitute(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: known signs by like ones, letters by their base, all others by `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for character in error.object[error.start : error.end]:
        base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        found.append(SUBSTITUTES.get(character) or base or "?")
    return "".join(found), error.end


def _hold_descriptors() -> None:
    """Open the null device for standard descriptors that are closed: else the next file would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _protected(stream: TextIO | None, descriptor: int, name: str) -> tuple[LastingFile | None, TextIO]:
    if stream is None:  # the descriptor was closed when Python started
        return None, open(descriptor, "w", encoding="utf-8", newline=None, closefd=False)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # no buffer lies between under PYTHONUNBUFFERED
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase) or isinstance(raw, LastingFile):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ENCODING_ERRORS)
        return None, stream
    stream.flush()
    lasting = LastingFile(raw, name)
    buffered: Any = lasting if buffer is raw else io.BufferedWriter(lasting)
    line_buffered = stream.line_buffering or name == "standard error"
    text = io.TextIOWrapper(
        buffered, stream.encoding, ENCODING_ERRORS, line_buffering=line_buffered, write_through=stream.write_through
    )
    return lasting, text
