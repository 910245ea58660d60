"""The files of a checkpoint as they lie on disk: what a file is by its first bytes, and JSON files. No tensor is read."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from longtake.core.errors import InputError
from longtake.core.files import json_object, problem_of
from longtake.core.process.memory_errors import ADVICE, out_of_memory

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
MAX_HEADER = 100_000_000  # bytes of a safetensors header, the limit of the library itself
MAX_JSON = 200_000_000  # bytes of a JSON file

FileKind = Literal["safetensors", "gguf", "pickle", "lfs", "other"]


class WeightsError(InputError):
    """Weights that cannot be used; the message says which file or tensor, and what to do."""


def brief(names: Sequence[str], most: int = 8) -> str:
    """Return the first few names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


# ---------------------------------------------------------------- kinds of files
CONVERT = "a pickle of PyTorch, which can run code: run `longtake convert` on it first"
UNPACK = "unpack it, and give the file inside"
BEGINNINGS: tuple[tuple[bytes, str], ...] = (  # how a file begins -> what it is, and what to do
    (b"version https://git-lfs", "a Git LFS pointer and not the file that it stands for: run `git lfs pull` in its folder"),
    (b"\x89PNG", "a PNG image, which holds no weights: give the safetensors file"),
    (b"\xff\xd8\xff", "a JPEG image, which holds no weights: give the safetensors file"),
    (b"GIF8", "a GIF image, which holds no weights: give the safetensors file"),
    (b"RIFF", "a WebP, WAV or AVI file, which holds no weights: give the safetensors file"),
    (b"\x1aE\xdf\xa3", "a Matroska video, which holds no weights: give the safetensors file"),
    (b"%PDF", "a PDF document, which holds no weights: give the safetensors file"),
    (b"\x1f\x8b", f"a gzip archive: {UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive: {UNPACK}"),
    (b"Rar!", f"a RAR archive: {UNPACK}"),
    (b"\xfd7zXZ", f"an xz archive: {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a zstd archive: {UNPACK}"),
    (b"BZh", f"a bzip2 archive: {UNPACK}"),
    (b"\x89HDF", "an HDF5 file (Keras), which is not read: give the safetensors file"),
    (b"\x7fELF", "a program, which holds no weights: give the safetensors file"),
)  # fmt: skip
PAGE = (
    "a web page (HTML) that was saved in place of the file: download the file itself (an address of the hub has /resolve/ "
    "in it, not /blob/), logged in if its page asks for consent"
)


def read_beginning(file: Path, count: int = 512) -> bytes:
    """Read the first bytes of a file. Raises WeightsError unless it is a regular file that can be read."""
    check_regular(file)
    try:
        with open(file, "rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error


def check_regular(file: Path) -> None:
    """Raise WeightsError unless a file exists and is a regular one: reading from a pipe or a device may never end."""
    if problem := problem_of(file):
        raise WeightsError(f"{file} is missing" if not file.exists() else f"{file} cannot be read: {problem}")


def file_kind(file: Path) -> FileKind:
    """Tell what a file is from its first bytes. Raises WeightsError unless it can be read."""
    return _kind(read_beginning(file))


def _kind(start: bytes) -> FileKind:
    if start[:4] == b"GGUF":
        return "gguf"
    if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= MAX_HEADER:
        return "safetensors"  # asked first, since its length may look like another sign
    if start[:2] == b"PK" or re.match(rb"\x80[\x02-\x05]", start) or start[257:262] == b"ustar":
        return "pickle"
    if start.startswith(b"version https://git-lfs"):
        return "lfs"
    return "other"


def damaged(file: Path, reason: object) -> WeightsError:
    """Return the error for a file that cannot be read as weights: what it is instead, if its first bytes show that.

    reason: why, or the error that says so. One of too little memory says nothing against the file.
    """
    if isinstance(reason, Exception) and out_of_memory(reason):
        return WeightsError(f"{file} needs more memory than there is: {ADVICE}")
    if what := foreign(file):
        return WeightsError(f"{file} is {what}")
    return WeightsError(f"{file} is damaged or cut short ({reason}): fetch it again")


def foreign(file: Path) -> str:
    """Return what a file is that is no file of weights, and what to do; "" if its first bytes do not show it."""
    start = read_beginning(file)
    kind = _kind(start)
    if kind == "pickle":
        return CONVERT
    if kind in ("safetensors", "gguf"):
        return ""
    for sign, what in BEGINNINGS:
        if start.startswith(sign):
            return what
    if start[4:8] == b"ftyp":
        return "a video, which holds no weights: give the safetensors file"
    if re.match(rb"\s*(<!doctype|<html|<head|<\?xml|<!--)", start.removeprefix(b"\xef\xbb\xbf"), re.I):
        return PAGE
    if re.match(rb"\s*[{\[]", start):
        return "a JSON text, which holds no weights (a server may have sent an error in place of the file): give the safetensors file"
    return ""


# ---------------------------------------------------------------- JSON
def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises WeightsError with the file's name."""
    check_regular(path)
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        return json_object(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON as expected: {error}") from error
