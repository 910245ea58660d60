"""The playlist index.m3u8: an HLS EVENT playlist to which whole segments are appended, and nothing else ever happens."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from longtake.reel import disk, journal
from longtake.reel.journal import Entry
from longtake.reel.layout import Layout
from longtake.reel.manifest import Manifest

END = "#EXT-X-ENDLIST\n"


def head(manifest: Manifest) -> str:
    """What comes before the first segment."""
    longest = -(-Fraction(manifest.segment) // manifest.fps)  # seconds, rounded up
    return (
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        f"#EXT-X-TARGETDURATION:{longest}\n#EXT-X-MEDIA-SEQUENCE:0\n"
        '#EXT-X-MAP:URI="media/init.mp4"\n'
    )


def item(entry: Entry, fps: Fraction) -> str:
    """One segment. Its length is in seconds."""
    return f"#EXTINF:{float(entry.frames / fps):.6f},\nmedia/{entry.file}\n"


def expected(layout: Layout, manifest: Manifest) -> Iterator[str]:
    """The playlist as the journal has it, piece by piece."""
    yield head(manifest)
    for entry in journal.segments(layout.journal):
        yield item(entry, manifest.fps)
    if next(journal.notes(layout.journal, "done"), None):
        yield END


def restore(layout: Layout, manifest: Manifest) -> None:
    """Write the playlist anew if it is not what the journal says: a process died between the two."""
    if not matches(layout, manifest):
        disk.write(layout.playlist, (text.encode() for text in expected(layout, manifest)))


def matches(layout: Layout, manifest: Manifest) -> bool:
    """Whether the playlist is what the journal says."""
    if not layout.playlist.exists():
        return False
    with open(layout.playlist, "rb") as file:
        return all(file.read(len(raw)) == raw for raw in _raw(layout, manifest)) and not file.read(1)


def append(path: Path, text: str) -> None:
    """Add to the playlist, in one write."""
    with open(path, "ab", buffering=0) as file:
        disk.put(file, text.encode())


def _raw(layout: Layout, manifest: Manifest) -> Iterator[bytes]:
    return (text.encode() for text in expected(layout, manifest))
