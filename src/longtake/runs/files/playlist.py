"""The playlist, index.m3u8: an HLS EVENT playlist that only grows, by one complete segment at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction

from longtake.runs.files import durable, journal
from longtake.runs.files.journal import SegmentEntry
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import Manifest

END = "#EXT-X-ENDLIST\n"


def head(manifest: Manifest, media: str = "media/") -> str:
    """Return the lines before the first segment. media: what the playlist puts before the names of media files."""
    longest = -(-Fraction(manifest.segment) // manifest.fps)  # seconds, rounded up
    return (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        f"#EXT-X-TARGETDURATION:{longest}\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f'#EXT-X-MAP:URI="{media}init.mp4"\n'
    )


def item(entry: SegmentEntry, fps: Fraction) -> str:
    """Return the lines of one segment."""
    return item_lines(entry.file, entry.frames, fps)


def item_lines(file: str, frames: int, fps: Fraction, media: str = "media/") -> str:
    """Return the lines of a segment with this file name and number of frames; its duration is in seconds."""
    return f"#EXTINF:{float(frames / fps):.6f},\n{media}{file}\n"


def expected(layout: Layout, manifest: Manifest) -> Iterator[str]:
    """Yield the playlist that belongs to the journal, piece by piece."""
    yield head(manifest)
    for entry in journal.segments(layout.journal):
        yield item(entry, manifest.fps)
    if journal.done_line(layout.journal):
        yield END


def restore(layout: Layout, manifest: Manifest) -> None:
    """Write the playlist again if it does not match the journal: a process may die between the two writes."""
    durable.unshare(layout.playlist)
    if not matches(layout, manifest):
        durable.write_file(layout.playlist, (text.encode() for text in expected(layout, manifest)))


def matches(layout: Layout, manifest: Manifest) -> bool:
    """Whether the playlist lists exactly the segments of the journal."""
    if not layout.playlist.exists():
        return False
    pieces = (text.encode() for text in expected(layout, manifest))
    with open(layout.playlist, "rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def listed(layout: Layout, manifest: Manifest) -> int | None:
    """Return how many segments of the journal the playlist lists; None if it is not the beginning of what belongs there.

    The playlist is read before the journal, which grows first.
    """
    if not layout.playlist.exists():
        return None
    left, count = layout.playlist.stat().st_size, 0
    with open(layout.playlist, "rb") as file:
        for number, text in enumerate(expected(layout, manifest)):
            if not left:
                return count
            if left < len(text.encode()) or file.read(len(text.encode())) != text.encode():
                return None
            left -= len(text.encode())
            count = number if text != END else count
    return None if left else count


def append(layout: Layout, manifest: Manifest, text: str) -> None:
    """Append to the playlist in one write; write it again if it is gone."""
    try:
        with open(layout.playlist, "r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            durable.write_all(file, text.encode())
    except FileNotFoundError:
        restore(layout, manifest)
