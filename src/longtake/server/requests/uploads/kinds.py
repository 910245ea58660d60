"""What a file is, by its first bytes: names and types that a client gives are not believed."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = 64  # bytes that decide


@dataclass(frozen=True)
class FileKind:
    """A kind of file. name: image, video, sound, table or lora. format: its name in PIL or FFmpeg. suffix: that it is given."""

    name: str
    format: str
    suffix: str


TABLE = FileKind("table", "csv", ".csv")
LORA = FileKind("lora", "safetensors", ".safetensors")
PICKLE = FileKind("lora", "pickle", ".pt")
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", FileKind("image", "PNG", ".png")),
    (b"\xff\xd8\xff", FileKind("image", "JPEG", ".jpg")),
    (b"BM", FileKind("image", "BMP", ".bmp")),
    (b"II*\x00", FileKind("image", "TIFF", ".tiff")),
    (b"MM\x00*", FileKind("image", "TIFF", ".tiff")),
    (b"GIF8", FileKind("image", "GIF", ".gif")),
    (b"\x1a\x45\xdf\xa3", FileKind("video", "matroska", ".mkv")),
    (b"fLaC", FileKind("sound", "flac", ".flac")),
    (b"OggS", FileKind("sound", "ogg", ".ogg")),
    (b"ID3", FileKind("sound", "mp3", ".mp3")),
    (b"\xff\xfb", FileKind("sound", "mp3", ".mp3")),
    (b"\xff\xf3", FileKind("sound", "mp3", ".mp3")),
    (b"PK\x03\x04", PICKLE),
    (b"\x80\x02", PICKLE),
)
_RIFF = {
    b"WEBP": FileKind("image", "WEBP", ".webp"),
    b"AVI ": FileKind("video", "avi", ".avi"),
    b"WAVE": FileKind("sound", "wav", ".wav"),
}
_BRANDS = {
    b"avif": FileKind("image", "AVIF", ".avif"),
    b"M4A ": FileKind("sound", "mov", ".m4a"),
}  # of files that begin with the box ftyp; all others are videos
_MOV = FileKind("video", "mov", ".mp4")


def kind_of(head: bytes) -> FileKind | None:
    """Return the kind of a file from its first HEAD bytes; None for one that is of no use here, such as SVG."""
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 27:
        return LORA  # first, since its length may look like the start of another kind
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MOV)
    return TABLE if _is_table(head) else None


def _is_table(head: bytes) -> bool:
    """Whether these are rows of numbers, or comments of such a file."""
    if head.startswith(b"\xef\xbb\xbf"):
        head = head[3:]
    first = head.split(b"\n")[0].strip()
    return bool(first) and (first.startswith(b"#") or all(byte in b"0123456789+-.eE, \t" for byte in first))
