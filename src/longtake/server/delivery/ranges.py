"""The header Range: one range of bytes, or the whole. Nothing here costs more than the header is long."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


@dataclass(frozen=True)
class Span:
    """Bytes first..last of a file, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class UnsatisfiableRangeError(ValueError):
    """A range that begins behind the end."""


def requested_span(header: str | None, size: int) -> Span | None:
    """Return the one range of bytes that a header asks for; None for the whole, also if it asks for several or is invalid.

    size: bytes that there are. Raises UnsatisfiableRangeError (status 416).
    """
    found = _RANGE.fullmatch(header.strip()) if header is not None and len(header) <= 64 else None
    if found is None:
        return None
    if found[3]:
        count = min(int(found[3]), size)
        first, last = size - count, size - 1
    else:
        first = int(found[1])
        last = min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        raise UnsatisfiableRangeError(header)
    return Span(first, last)
