"""The attention of every network: one function, chosen once when a model is loaded from what is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as nnf
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q (B L N E), k and v (b M N E), b being B or 1 -> (B, L, N*E)


class AttentionError(ValueError):
    """An attention that this machine does not have; the message says what to do."""


def sdpa(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor, seen_BM: Tensor | None = None) -> Tensor:
    """PyTorch's own; keys and values of batch 1 serve any batch. seen: the keys that are looked at, if not all."""
    q, k, v = (t.transpose(1, 2) for t in spread(q_BLNE, k_BMNE, v_BMNE))
    mask = None if seen_BM is None else seen_BM[:, None, None]
    slow = q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"
    return (trained if slow else nnf.scaled_dot_product_attention)(q, k, v, mask).transpose(1, 2).flatten(2)


def trained(q_BNLE: Tensor, k_BNME: Tensor, v_BNME: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention (B N L E) in bfloat16 on a CPU where gradients are wanted, whose fused backward pass is slow.

    Up to 512 keys two matrix products and a softmax are faster (twice for 250 keys, ten times for 32), above that the
    fused kernel in float32, which keeps no scores.
    """
    if k_BNME.shape[2] > 512:
        q, k, v = (t.float() for t in (q_BNLE, k_BNME, v_BNME))
        return nnf.scaled_dot_product_attention(q, k, v, mask).to(v_BNME.dtype)
    scores = (q_BNLE * q_BNLE.shape[-1] ** -0.5) @ k_BNME.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(v_BNME.dtype) @ v_BNME


def flash(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor) -> Tensor:
    """FlashAttention (Dao 2023), exact up to rounding."""
    return import_module("flash_attn").flash_attn_func(*spread(q_BLNE, k_BMNE, v_BMNE)).flatten(2)


def sage(q_BLNE: Tensor, k_BMNE: Tensor, v_BMNE: Tensor) -> Tensor:
    """SageAttention (Zhang et al. 2024), in 8 bits: faster, and not the same video."""
    q, k, v = spread(q_BLNE, k_BMNE, v_BMNE)
    return import_module("sageattention").sageattn(q, k, v, tensor_layout="NHD").flatten(2)


BACKENDS: dict[str, tuple[Attend, str]] = {  # name -> function, package (of torch itself: none)
    "sdpa": (sdpa, ""),
    "flash": (flash, "flash_attn"),
    "sage": (sage, "sageattention"),
}


def choose(name: str, device: torch.device | str, dtype: torch.dtype | None) -> Attend:
    """The attention of that name; "auto" is flash where it is installed and can run, else sdpa.

    AttentionError says why another cannot be had here.
    """
    fits = torch.device(device).type == "cuda" and dtype in (torch.float16, torch.bfloat16)
    if name == "auto":
        return flash if fits and find_spec("flash_attn") is not None else sdpa
    if name not in BACKENDS:
        raise AttentionError(f"attention is one of auto, {', '.join(BACKENDS)}, not {name!r}")
    attend, package = BACKENDS[name]
    if package and not fits:
        raise AttentionError(f"attention {name} needs a GPU and half precision: use auto")
    if package and find_spec(package) is None:
        raise AttentionError(f"attention {name} needs the package {package}, which is not installed: use auto")
    return attend


def spread(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values for every video of the batch, without a copy."""
    return q, k.expand(len(q), -1, -1, -1), v.expand(len(q), -1, -1, -1)
