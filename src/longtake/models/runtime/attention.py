"""Attention backends: one function for all blocks of a network, chosen when the model is loaded."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor

from longtake.core.errors import InputError


class AttentionError(InputError):
    """An attention backend that this machine cannot run; the message says what to do."""


class Attend(Protocol):
    """Softmax attention of queries (B L N E) to keys and values (B M N E) or (1 M N E); returns (B, L, N*E)."""

    def __call__(self, q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor, mask_BM: Tensor | None = None) -> Tensor:
        """Attend. mask_BM: True for the keys of each video that may be attended to; None for all."""


def sdpa(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor, mask_BM: Tensor | None = None) -> Tensor:
    """PyTorch's scaled_dot_product_attention (see `Attend`)."""
    q, k, v = (t.transpose(1, 2) for t in same_batch(q_BLNE, k_BMNE, v_BMNE))
    mask = None if mask_BM is None else mask_BM[:, None, None]
    slow = q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"
    attend = bfloat16_training_attention if slow else nnf.scaled_dot_product_attention
    return attend(q, k, v, mask).transpose(1, 2).flatten(2)


def bfloat16_training_attention(
    q_BNLE: Tensor, k_BNME: Tensor, v_BNME: Tensor, mask: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Attention (B N L E) in bfloat16 on a CPU with gradients, where PyTorch's fused backward pass is slow.

    Up to 512 keys two matrix products and a softmax are faster (twice for 250 keys, ten times for 32); above that the
    fused kernel in float32 is, which stores no scores.
    """
    if k_BNME.shape[2] > 512:
        q, k, v = (t.float() for t in (q_BNLE, k_BNME, v_BNME))
        return nnf.scaled_dot_product_attention(q, k, v, mask).to(v_BNME.dtype)
    scores = (q_BNLE * q_BNLE.shape[-1] ** -0.5) @ k_BNME.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(v_BNME.dtype) @ v_BNME


def flash(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor, mask_BM: Tensor | None = None) -> Tensor:
    """FlashAttention (Dao 2023), exact up to rounding; it takes no mask, so masked calls use `sdpa`."""
    if mask_BM is not None:
        return sdpa(q_BLNE, k_BMNE, v_BMNE, mask_BM)
    return import_module("flash_attn").flash_attn_func(*same_batch(q_BLNE, k_BMNE, v_BMNE)).flatten(2)


def sage(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor, mask_BM: Tensor | None = None) -> Tensor:
    """SageAttention (Zhang et al. 2024) in 8 bits: faster, with slightly different frames; masked calls use `sdpa`."""
    if mask_BM is not None:
        return sdpa(q_BLNE, k_BMNE, v_BMNE, mask_BM)
    q, k, v = same_batch(q_BLNE, k_BMNE, v_BMNE)
    return import_module("sageattention").sageattn(q, k, v, tensor_layout="NHD").flatten(2)


BACKENDS: dict[str, tuple[Attend, str]] = {  # name -> function, package to install ("" for PyTorch itself)
    "sdpa": (sdpa, ""),
    "flash": (flash, "flash_attn"),
    "sage": (sage, "sageattention"),
}


def choose_attention(name: str, device: torch.device | str, dtype: torch.dtype | None) -> Attend:
    """Return the attention backend of that name; "auto" is flash if it is installed and can run here, else sdpa.

    AttentionError names what a backend lacks on this machine.
    """
    half_on_gpu = torch.device(device).type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    if name == "auto":
        return flash if half_on_gpu and find_spec("flash_attn") is not None else sdpa
    if name not in BACKENDS:
        raise AttentionError(f"--attention must be auto, {', '.join(BACKENDS)}, not {name!r}")
    attend, package = BACKENDS[name]
    if package and not half_on_gpu:
        raise AttentionError(f"--attention {name} needs a GPU and bf16 or fp16 weights: use --attention auto")
    if package and find_spec(package) is None:
        raise AttentionError(
            f"--attention {name} needs the package {package}, which is not installed: use --attention auto"
        )
    return attend


def same_batch(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three with keys and values expanded to the batch of the queries, without a copy."""
    return q, k.expand(len(q), -1, -1, -1), v.expand(len(q), -1, -1, -1)
