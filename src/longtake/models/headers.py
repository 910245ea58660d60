"""What safetensors files say of their tensors, read from their headers alone: names, shapes, dtypes, and whether all is there."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.models.weights import Names, WeightsError, files, rename

MOST = 100_000_000  # bytes of a header, as in safetensors itself
BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}


@dataclass(frozen=True)
class Entry:
    """One tensor: its dtype as the file writes it (BF16, F32, F8_E4M3, ...), its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def numel(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def header(file: Path) -> dict[str, Entry]:
    """The tensors of one file. WeightsError if it is no safetensors file, or if bytes are missing at its end."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MOST:
                raise ValueError(f"a header of {length} bytes")
            told = json.loads(stream.read(length))
        told.pop("__metadata__", None)
        entries = {name: _entry(about) for name, about in told.items()}
        end = max((about["data_offsets"][1] for about in told.values()), default=0)
        size = file.stat().st_size
        if size != 8 + length + end:
            raise ValueError(f"{size} bytes instead of {8 + length + end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"{file} is damaged or cut short ({error}): fetch it again") from error
    return entries


def _entry(about: Mapping) -> Entry:
    shape, (start, end) = tuple(int(n) for n in about["shape"]), about["data_offsets"]
    bits = BITS.get(about["dtype"])
    if bits is not None and 8 * (end - start) != bits * math.prod(shape):
        raise ValueError(f"{end - start} bytes for a tensor of {shape} {about['dtype']}")
    return Entry(str(about["dtype"]), shape, end - start)


def entries(path: Path | str | Iterable[Path], names: Names = ()) -> dict[str, Entry]:
    """The tensors of a folder, of a file, or of some files, under their new names."""
    found: dict[str, Entry] = {}
    for file in files(path) if isinstance(path, (str, Path)) else path:
        for old, entry in header(file).items():
            new = rename(old, names)
            if new is not None:
                found[new] = entry
    return found


def numbered(names: Iterable[str], pattern: str) -> int:
    """How many of `pattern`, whose group counts from 0, the names hold."""
    matches = (re.search(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)
