"""The shape of a Wan transformer, and the names that other layouts give its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longtake.models.checkpoints import loading as weights


@dataclass(frozen=True)
class WanConfig:
    """Shape of a network; the names are those of diffusers' config.json.

    causal, block, max_latent_frames: a frame attends to its own block of `block` latent frames and those before, and one
    step sees at most `max_latent_frames` frames. rope_max_seq_len: read and unused, since positions have no end here.
    control_dim: width of the control signal per latent frame (None: the network takes none).
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 16
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 8192
    num_layers: int = 32
    cross_attn_norm: bool = True
    qk_norm: str = "rms_norm_across_heads"
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    inject_sample_info: bool = False
    control_dim: int | None = None
    rope_max_seq_len: int = 1024
    causal: bool = False
    block: int = 1
    max_latent_frames: int = 25

    def __post_init__(self):
        object.__setattr__(self, "patch_size", tuple(self.patch_size))
        if self.qk_norm != "rms_norm_across_heads":
            raise ValueError(f"qk_norm is {self.qk_norm!r}, but in a Wan network it must be 'rms_norm_across_heads'")
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size is {self.patch_size}, but sigmas per frame need a time patch of 1")
        if self.attention_head_dim % 2:
            raise ValueError(f"attention_head_dim is {self.attention_head_dim}; rotary positions need an even number")
        if (self.image_dim is None) != (self.added_kv_proj_dim is None):
            raise ValueError("image_dim and added_kv_proj_dim go together: set both, or neither")

    @property
    def dim(self) -> int:
        """Width of the network."""
        return self.num_attention_heads * self.attention_head_dim


UNUSED = {"num_frame_per_block": 1, "window_size": [-1, -1]}  # config keys that have no effect at these values

NAMES: weights.Names = (  # original Wan, SkyReels-V2 and ComfyUI files to diffusers; its own names pass unchanged
    *weights.WRAPPERS,
    (r"^(text|time)_embedding\.0\.", r"condition_embedder.\1_embedder.linear_1."),
    (r"^(text|time)_embedding\.2\.", r"condition_embedder.\1_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^fps_projection\.0\.", "fps_projection.net.0.proj."),
    (r"^fps_projection\.2\.", "fps_projection.net.2."),
    (r"^img_emb\.proj\.0\.", "condition_embedder.image_embedder.norm1."),
    (r"^img_emb\.proj\.1\.", "condition_embedder.image_embedder.ff.net.0.proj."),
    (r"^img_emb\.proj\.3\.", "condition_embedder.image_embedder.ff.net.2."),
    (r"^img_emb\.proj\.4\.", "condition_embedder.image_embedder.norm2."),
    (r"^head\.head\.", "proj_out."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"\.modulation$", ".scale_shift_table"),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"(\.attn[12])\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attn[12])\.o\.", r"\1.to_out.0."),
    (r"\.attn2\.([kv])_img\.", r".attn2.add_\1_proj."),
    (r"\.norm_k_img\.", ".norm_added_k."),
    (r"\.norm_added_q\.", None),  # left in some image-to-video files, never used
    (r"\.norm3\.", ".norm2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
)


def tiny(**changes: Any) -> WanConfig:
    """Return a config for tests: two layers, 24 wide."""
    small: dict[str, Any] = dict(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=10, freq_dim=16,
        ffn_dim=40, num_layers=2,
    )  # fmt: skip
    return WanConfig(**(small | changes))
