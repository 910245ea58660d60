"""The shape of an LTX-Video transformer, and the positions that it was trained for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longtake.core.errors import PlanError

SECONDS, PIXELS = 20.0, 2048.0  # the range of positions that the network was trained for


@dataclass(frozen=True)
class LTXConfig:
    """Shape of a network; the names are those of diffusers' config.json.

    causal_temporal_positioning: the position of a latent is that of its first frame (0.9.5 and later), instead of a
    multiple of `temporal_compression`. temporal_compression, scale: frames and pixels per latent, of the VAE.
    """

    in_channels: int = 128
    out_channels: int = 128
    patch_size: int = 1
    patch_size_t: int = 1
    num_attention_heads: int = 32
    attention_head_dim: int = 64
    cross_attention_dim: int = 2048
    num_layers: int = 28
    activation_fn: str = "gelu-approximate"
    qk_norm: str = "rms_norm_across_heads"
    norm_elementwise_affine: bool = False
    norm_eps: float = 1e-6
    caption_channels: int = 4096
    attention_bias: bool = True
    attention_out_bias: bool = True
    causal_temporal_positioning: bool = False
    temporal_compression: int = 8
    scale: int = 32

    def __post_init__(self):
        fixed = dict(
            patch_size=1, patch_size_t=1, activation_fn="gelu-approximate", qk_norm="rms_norm_across_heads",
            norm_elementwise_affine=False, attention_bias=True, attention_out_bias=True,
        )  # fmt: skip
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but in an LTX network it must be {value!r}")
        if self.cross_attention_dim != self.dim:
            raise ValueError(
                f"cross_attention_dim is {self.cross_attention_dim}; the projected text is {self.dim} wide"
            )
        if self.attention_head_dim % 2 or self.dim < 12:
            raise ValueError(f"rotary positions need an even attention_head_dim and 12 channels, not {self.dim}")

    @property
    def dim(self) -> int:
        """Width of the network."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def back(self) -> int:
        """Frames by which latents after the first are earlier, since the first latent holds only one frame."""
        return self.temporal_compression - 1 if self.causal_temporal_positioning else 0

    def max_latent_frames(self, fps: float) -> int:
        """Return how many latent frames fit into the range of positions at a frame rate."""
        return 1 + math.floor((SECONDS * fps + self.back) / self.temporal_compression + 1e-9)

    def frames(self, positions: Sequence[float], fps: float) -> list[float]:
        """Return the output frame of a latent at each position (in latent frames). Raises PlanError past 20 seconds.

        Positions below 0 belong to references: `temporal_compression` frames apart, before the first frame.
        """
        found = [
            self.temporal_compression * p - min(self.back, self.temporal_compression * max(p, 0.0)) for p in positions
        ]
        if max(found) > SECONDS * fps * (1 + 1e-9):
            most = self.max_latent_frames(fps) - (
                max(positions) % 1 > 0
            )  # a keyframe inside the last latent comes after it
            raise PlanError(
                f"the window reaches {max(found) / fps:.1f} s, but the positions of this network end at "
                f"{SECONDS:g} s: use a window of at most {1 + self.temporal_compression * (most - 1)} frames at {fps:g} fps"
            )
        return found


def tiny(**changes: Any) -> LTXConfig:
    """Return a config for tests: two layers, 20 wide, so that two channels are not rotated."""
    small: dict[str, Any] = dict(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, cross_attention_dim=20,
        num_layers=2, caption_channels=10, scale=8,
    )  # fmt: skip
    return LTXConfig(**(small | changes))
