"""Weights that a file holds in 8 bits with a scale: scaled float8 is read, all other quantisations are named and refused.

ComfyUI's scaled files hold W / scale in float8 (e4m3 or e5m2) as `x.weight`, and scale as `x.scale_weight` (beside an empty
`scaled_fp8`) or, in newer files, as `x.weight_scale`: one number for the matrix, or one for every row. Scales of the input
(`scale_input`, `input_scale`) and descriptions (`comfy_quant`) are for kernels that multiply in float8, and not used here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from longtake.models.checkpoints.disk import WeightsError, brief

FP8 = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}  # dtype -> name in a safetensors header
FORMAT = torch.float8_e4m3fn
LARGEST = torch.finfo(FORMAT).max
USE = "use the bf16, the scaled fp8 or the GGUF version of the checkpoint"

FOREIGN: tuple[tuple[str, str], ...] = (  # names of tensors -> the quantisation that they belong to
    (r"\.(nested_)?(absmax|quant_map)$|quant_state\.bitsandbytes", "bitsandbytes in 4 bits"),
    (r"\.(SCB|weight_format)$", "bitsandbytes in 8 bits (int8)"),
    (r"\.(qweight|qzeros|g_idx)$", "GPTQ or AWQ"),
    (r"\._(data|scale|shift)$", "optimum-quanto"),
    (r"\.(wscales|wcscales|wtscale|smooth_factor)$", "SVDQuant (nunchaku)"),
    (r"\.weight_packed$", "compressed-tensors (packed integers)"),
    (r"\.weight_scale_inv$", "float8 with a scale for every block of 128 x 128 numbers"),
    (r"\.weight_scale_2$", "NVFP4 (4 bits)"),
    (r"\.weight_zero_point$", "integers with zero points"),
    (r"(:_data|_qdata|\.qdata|\.tensor_impl\.)", "torchao"),
)
_SCALE = re.compile(r"(?P<stem>.+)\.(scale_weight|weight_scale)")
_UNUSED = re.compile(r"(.+\.)?(scale_input|input_scale|comfy_quant)|(.+\.)?scaled_fp8")


class Stored(Protocol):
    """A tensor as a file holds it: a Tensor itself, or one in fewer bits."""

    @property
    def shape(self) -> torch.Size:
        """Its shape."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
        """Return it as a Tensor on a device, in a dtype (None: its own; of one in fewer bits, float32)."""


@dataclass(frozen=True)
class ScaledWeight:
    """A float8 matrix (rows, columns) and its scale, () or (rows, 1)."""

    weight: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """The shape of the matrix."""
        return self.weight.shape

    def to(self, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
        """Return weight times scale, computed in float32 and rounded once."""
        return (self.weight.to(device).float() * self.scale.to(device).float()).to(dtype or torch.float32)


@dataclass(frozen=True)
class Form:
    """The dtype of a tensor, as safetensors headers name it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def form(stored: Stored) -> Form:
    """Return the form of a stored tensor; those in fewer bits count as F32, which they are read as."""
    dtype = cast(Tensor, stored).dtype if isinstance(stored, Tensor) else torch.float32
    whole = {torch.int8: "I8", torch.uint8: "U8", **FP8}
    return Form(whole.get(dtype, "F32"), tuple(stored.shape))


@dataclass(frozen=True)
class Scales:
    """The tensors of a checkpoint that are scales. of: weight -> its scale. unused: tensors that need not be read."""

    of: Mapping[str, str]
    unused: frozenset[str]


def find_scales(forms: Mapping[str, Form], where: object) -> Scales:
    """Find the scales among the tensors of a checkpoint. Raises WeightsError that names any other quantisation."""
    for pattern, what in FOREIGN:
        if found := [name for name in forms if re.search(pattern, name)]:
            raise WeightsError(
                f"{where} holds weights quantised as {what}, such as {found[0]}, which is not read: {USE}"
            )
    of: dict[str, str] = {}
    for name, scale in forms.items():
        match = _SCALE.fullmatch(name)
        weight = forms.get(f"{match['stem']}.weight") if match else None
        if not match or weight is None or (name.endswith(".weight_scale") and weight.dtype not in _EIGHT_BITS):
            continue
        _check_scale(f"{match['stem']}.weight", weight, scale, where)
        of[f"{match['stem']}.weight"] = name
    small = {name for name, one in forms.items() if one.dtype in FP8.values()}
    unused = frozenset(name for name in forms if (of or small) and _UNUSED.fullmatch(name))
    return Scales(of, unused)


_EIGHT_BITS = ("I8", "U8", "I4", "F4", *FP8.values())


def _check_scale(name: str, weight: Form, scale: Form, where: object) -> None:
    rows = weight.shape[0] if weight.shape else 1
    if weight.dtype in _EIGHT_BITS and weight.dtype not in FP8.values():
        raise WeightsError(
            f"{where} holds weights quantised as {_NAMES[weight.dtype]}, such as {name}, which is not read: {USE}"
        )
    if scale.dtype in ("I8", "U8", "F8_E8M0") or scale.shape not in ((), (1,), (1, 1), (rows,), (rows, 1)):
        raise WeightsError(
            f"{where} holds float8 with scales of the shape {scale.shape} for {name}, which is not read (such as MXFP8): {USE}"
        )


_NAMES = {"I8": "int8", "U8": "4 bits (NVFP4, or another packed format)", "I4": "int4", "F4": "4 bits (MXFP4)"}

T = TypeVar("T")


def without_scales(found: Mapping[str, T], scales: Scales) -> dict[str, T]:
    """Return the tensors of a checkpoint that are neither scales nor unused."""
    dropped = {*scales.of.values(), *scales.unused}
    return {name: one for name, one in found.items() if name not in dropped}


def scaled(found: Mapping[str, Stored], where: object) -> dict[str, Stored]:
    """Return the tensors of a checkpoint with every scale joined to its weight. Raises WeightsError."""
    scales = find_scales({name: form(one) for name, one in found.items()}, where)
    whole = without_scales(found, scales)
    for name, scale in scales.of.items():
        weight, factor = cast(Tensor, found[name]), cast(Tensor, found[scale])
        shape = (-1, *[1] * (weight.ndim - 1)) if factor.numel() > 1 else ()
        whole[name] = ScaledWeight(weight, factor.reshape(shape))
    return whole


# ---------------------------------------------------------------- float8 in memory
@dataclass(frozen=True)
class Fp8Weight:
    """The scale (rows, 1) of a float8 matrix, and the dtype that it is dequantised to."""

    scale: Tensor
    dtype: torch.dtype


class Fp8Parameter(nn.Parameter):
    """A float8 matrix as the parameter of a layer that has not been prepared for use yet, with its scale."""

    stored: Fp8Weight


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix (rows, columns) as float8, and its scale (rows, 1) in float32."""
    full = weight.float()
    scale = full.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (full / scale).clamp_(-LARGEST, LARGEST).to(FORMAT), scale


def dequantize(quantized: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a float8 matrix (rows, columns) times its scale (rows, 1), in `dtype`."""
    return (quantized.float() * scale).to(dtype)


def fp8_parameter(stored: Stored, device: torch.device | str, dtype: torch.dtype) -> Fp8Parameter:
    """Return a matrix as a float8 parameter: float8 of the file with the file's scale, all others quantised by rows.

    dtype: that the matrix is dequantised to when it is used.
    """
    if isinstance(stored, ScaledWeight):
        quantized, scale = stored.weight.to(device), stored.scale.to(device).float()
    elif isinstance(stored, Tensor) and stored.dtype in FP8:
        quantized, scale = stored.to(device), torch.ones((), device=device)
    else:
        quantized, scale = quantize(stored.to(device, dtype))
    made = Fp8Parameter(quantized, requires_grad=False)
    made.stored = Fp8Weight(scale.expand(len(quantized), 1).contiguous(), dtype)
    return made


def check_floating(forms: Mapping[str, Form]) -> str:
    """Return the names of tensors that are stored as whole numbers, with their dtype; "" if there are none."""
    whole = [f"{name} ({one.dtype})" for name, one in forms.items() if one.dtype in ("I8", "U8")]
    return brief(whole)
