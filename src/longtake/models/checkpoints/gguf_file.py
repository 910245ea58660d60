"""GGUF files of transformers and text encoders: their tensors by name, dequantised as they are loaded.

The library `gguf` reads the file and holds the formulas. Sources: the GGUF specification; the names and shapes that
converters for ComfyUI write (a tensor of five dimensions, which GGUF does not have, keeps its shape in a field of its own).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models.checkpoints.disk import WeightsError, check_regular, damaged

SHAPES = "comfy.gguf.orig_shape."  # field with the shape of a tensor that was flattened to fit
MAX_DIM = 2**40
WHOLE = ("F32", "F16")  # types that are stored as they are
TYPES = (
    *WHOLE, "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0", "MXFP4",
    "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS",
)  # fmt: skip
_FAULTS = (ValueError, LookupError, TypeError, ArithmeticError, OSError, MemoryError, AttributeError)


@dataclass(frozen=True)
class GgufTensor:
    """A tensor as a GGUF file holds it. kind: its type in the file, such as Q4_K. data: its numpy array, memory-mapped."""

    kind: str
    shape: torch.Size
    data: Any

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return int(self.data.nbytes)

    def to(self, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
        """Return the dequantised tensor (dtype None: float32)."""
        gguf = import_module("gguf")
        values = gguf.quants.dequantize(self.data, gguf.GGMLQuantizationType[self.kind])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the memory map is read-only, and `to` or `clone` copies it
            made = torch.from_numpy(values).reshape(self.shape)
        made = made.to(device, dtype or torch.float32)
        return made.clone() if self.kind in WHOLE and made.device.type == "cpu" else made


def read_gguf(file: Path) -> dict[str, GgufTensor]:
    """Read the tensors of a GGUF file, still quantised. Raises WeightsError for a damaged file or an unknown type."""
    check_regular(file)
    try:
        reader = _reader_class()(file)
        shapes = {
            name.removeprefix(SHAPES): field.contents()
            for name, field in reader.fields.items()
            if name.startswith(SHAPES)
        }
        found = {one.name: _tensor(one, shapes.get(one.name)) for one in reader.tensors}
    except _FAULTS as error:
        raise damaged(file, str(error) or type(error).__name__) from error
    if unknown := [f"{name} ({one.kind})" for name, one in found.items() if one.kind not in TYPES]:
        raise WeightsError(
            f"{file} holds {unknown[0]}, a type that the library gguf does not dequantise: use a file of another type, such as Q8_0"
        )
    return found


def gguf_texts(file: Path) -> dict[str, str]:
    """Return the text fields of a GGUF file, such as general.architecture, or the config that a converter copied."""
    try:
        reader = _reader_class()(file)
        found = {name: field.contents() for name, field in reader.fields.items() if field.types[:1]}
    except _FAULTS as error:
        raise damaged(file, str(error) or type(error).__name__) from error
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _tensor(one: Any, shape: Any) -> GgufTensor:
    stored = tuple(int(n) for n in reversed(one.shape))
    wanted = stored if shape is None else tuple(int(n) for n in shape)
    if any(not 0 <= n < MAX_DIM for n in wanted) or torch.Size(wanted).numel() != int(one.n_elements):
        raise ValueError(f"{one.name} has the shape {wanted}, but {one.n_elements} numbers")
    return GgufTensor(one.tensor_type.name, torch.Size(wanted), one.data)


def _reader_class() -> Any:
    """Return the library's reader with a check that no read passes the end of the file (it would loop over nothing)."""
    base: Any = import_module("gguf").GGUFReader

    class Reader(base):
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            width = import_module("numpy").dtype(dtype).itemsize
            if offset < 0 or int(offset) + int(count) * width > self.data.nbytes:
                raise ValueError("it ends early")
            return super()._get(offset, dtype, count, override_order)

    return Reader
