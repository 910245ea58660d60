"""Names, shapes and dtypes of the tensors in safetensors and GGUF files, from the headers alone; truncated files are found."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtake.core.files import json_object
from longtake.models.checkpoints.disk import MAX_HEADER, brief, check_regular, damaged, file_kind
from longtake.models.checkpoints.gguf_file import gguf_texts, read_gguf
from longtake.models.checkpoints.part_files import check_index, check_pickle, files
from longtake.models.checkpoints.quantised import Form, find_scales, without_scales
from longtake.models.checkpoints.tensor_names import Names, rename

METADATA = "__metadata__"
MAX_DIM = 2**48
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor. dtype: as the file writes it (BF16, F32, F8_E4M3, Q4_K, ...). bytes: its size in the file."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def header(file: Path) -> dict[str, Entry]:
    """Read the header of one file. Raises WeightsError if it is no file of weights, or is truncated."""
    check_pickle(file)
    if file_kind(file) == "gguf":
        return {name: Entry(one.kind, tuple(one.shape), one.bytes) for name, one in read_gguf(file).items()}
    written, length = _written(file)
    try:
        found = {name: _entry(about) for name, about in written.items() if name != METADATA}
        end = max((about["data_offsets"][1] for name, about in written.items() if name != METADATA), default=0)
        size = file.stat().st_size
        if size != 8 + length + end:
            raise ValueError(f"{size} bytes instead of {8 + length + end}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise damaged(file, error) from error
    return found


def metadata(file: Path) -> dict[str, str]:
    """Return the texts that a file holds beside the tensors, in the header of safetensors or the fields of GGUF."""
    if file_kind(file) == "gguf":
        return gguf_texts(file)
    found = _written(file)[0].get(METADATA) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise damaged(file, "its metadata is no table of texts")
    return found


def json_metadata(file: Path, key: str) -> dict[str, Any]:
    """Return the JSON object that a safetensors header holds under a key, {} for none. Raises WeightsError."""
    try:
        return json_object(metadata(file).get(key) or "{}")
    except ValueError as error:
        raise damaged(file, f"{key} of its metadata: {error}") from error


def _written(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file as it is written, and its length in bytes."""
    check_regular(file)
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            return json_object(stream.read(length)), length
    except (OSError, ValueError, struct.error) as error:
        raise damaged(file, error) from error


def _entry(about: Mapping) -> Entry:
    shape, (start, end), dtype = tuple(about["shape"]), about["data_offsets"], about["dtype"]
    if not all(type(n) is int and 0 <= n < MAX_DIM for n in (*shape, start, end)) or start > end:
        raise ValueError(f"a tensor of shape {str(shape)[:60]} from byte {start} to {end}")
    bits = BITS.get(dtype)
    if bits is None:
        raise ValueError(f"a tensor of the unknown dtype {str(dtype)[:20]!r}")
    if 8 * (end - start) != bits * math.prod(shape):
        raise ValueError(f"{end - start} bytes for a tensor of {shape} {dtype}")
    return Entry(str(dtype), shape, end - start)


def entries(path: Path | str | Iterable[Path], names: Names = ()) -> dict[str, Entry]:
    """Read the headers of a folder, of a file, or of several files, with tensors renamed by `names`, and without scales."""
    found: dict[str, Entry] = {}
    listed = files(path) if isinstance(path, (str, Path)) else list(path)
    seen: list[str] = []
    for file in listed:
        for old, entry in header(file).items():
            seen.append(old)
            new = rename(old, names)
            if new is not None:
                found[new] = entry
    check_index(listed, seen)
    forms = {name: Form(entry.dtype, entry.shape) for name, entry in found.items()}
    return without_scales(found, find_scales(forms, brief([str(file) for file in listed], 1)))


def stand_ins(found: Mapping[str, Entry]) -> dict[str, torch.Tensor]:
    """Return tensors of these shapes on the meta device, without values: of whole numbers where the files hold such."""
    whole = {"I8": torch.int8, "U8": torch.uint8}
    return {
        name: torch.empty(entry.shape, dtype=whole.get(entry.dtype, torch.float32), device="meta")
        for name, entry in found.items()
    }


def numbered(names: Iterable[str], pattern: str) -> int:
    """Return 1 + the largest number that the group of `pattern` matches in the names: the count of numbered layers."""
    matches = (re.search(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)
