"""The names of Wan transformer modules in LoRA files, and the modules that Stable Video Infinity trains."""

from __future__ import annotations

from longtake.models.lora.key_formats import KeyFormat
from longtake.models.wan.config import NAMES

KEY_FORMAT = KeyFormat(
    names=NAMES,
    words=(
        "self_attn", "cross_attn", "k_img", "v_img", "norm_q", "norm_k", "norm_k_img", "img_emb", "patch_embedding",
        "text_embedding", "time_embedding", "time_projection", "fps_embedding", "fps_projection",
    ),
    fused=(
        (r"\.attn1\.to_qkv$", (".attn1.to_q", ".attn1.to_k", ".attn1.to_v")),
        (r"\.self_attn\.qkv$", (".self_attn.q", ".self_attn.k", ".self_attn.v")),
        (r"\.attn2\.to_kv$", (".attn2.to_k", ".attn2.to_v")),
        (r"\.cross_attn\.kv$", (".cross_attn.k", ".cross_attn.v")),
        (r"\.attn2\.to_added_kv$", (".attn2.add_k_proj", ".attn2.add_v_proj")),
    ),
)  # fmt: skip

# Stable Video Infinity: self- and cross-attention to text, and the feed-forward; 400 modules in the network of 14B
SVI_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
