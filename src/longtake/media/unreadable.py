"""Why a file is no video or image that can be read, from its first bytes: cut off, animated WebP, a web page, a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


def reason(path: Path) -> str:
    """Return in a phrase why a file cannot be read and what to do; "" if its bytes do not say it."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 12)
            if not head:
                return "the file is empty"
            if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
                return "HEIC is not supported: save it as PNG or JPEG"
            if head[4:8] == b"ftyp":
                return "" if _has_index(file) else "the file is cut off before its index (moov): copy it again in full"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head:
        return "animated WebP cannot be read: convert it, for example with `magick IN.webp OUT.gif`"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run `git lfs pull` to fetch the file itself"
    if head.lstrip()[:1] == b"<":
        return "it is a web page or another text: download the file itself"
    return ""


def _has_index(file: BinaryIO) -> bool:
    """Whether an ISO base media file (MP4, MOV) has a box moov, without reading the boxes themselves."""
    at, end = 0, file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        if header[4:8] in (b"moov", b"meta"):
            return at + size <= end
        size = int.from_bytes(header[8:16], "big") if size == 1 else end - at if size == 0 else size
        at += max(8, size)
    return False
