"""The shape of a Wan VAE, and the names that other layouts give its weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from longtake.models.checkpoints import loading as weights

WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True)
class WanVAEConfig:
    """Shape of a VAE; the names are those of diffusers' config.json.

    temperal_downsample: for every resolution but the last, whether time is halved as well as space. patch_size: patches of
    this size are folded into channels first, which in_channels and out_channels count.
    """

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    dropout: float = 0.0
    latents_mean: tuple[float, ...] = WAN_MEAN
    latents_std: tuple[float, ...] = WAN_STD
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_temporal: int = 4
    scale_factor_spatial: int = 8

    def __post_init__(self):
        for name in ("dim_mult", "attn_scales", "temperal_downsample", "latents_mean", "latents_std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.is_residual:
            raise ValueError("is_residual VAEs (Wan 2.2, 5B) are not supported: use the VAE of Wan 2.1")
        if len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ValueError(
                f"temperal_downsample has {len(self.temperal_downsample)} entries, "
                f"but {len(self.dim_mult)} resolutions need {len(self.dim_mult) - 1}"
            )
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise ValueError(f"latents_mean and latents_std need one number for each of the {self.z_dim} channels")
        if min(self.latents_std) <= 0:
            raise ValueError("latents_std must be above 0 in every channel, since latents are divided by it")
        channels = 3 * (self.patch_size or 1) ** 2
        if self.in_channels != channels or self.out_channels != channels:
            raise ValueError(f"patch_size {self.patch_size} makes {channels} channels, in and out, of three colours")

    @property
    def temporal_compression(self) -> int:
        """Frames per latent after the first."""
        return 2 ** sum(self.temperal_downsample)

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent pixel, each way."""
        return 2 ** (len(self.dim_mult) - 1) * (self.patch_size or 1)

    @property
    def replay_latents(self) -> int:
        """Latents that, replayed into a new decoder, restore the state of one that saw the whole clip.

        `stale` counts the frames at the start of the replay that differ, at the rate of the current layer: each causal
        convolution adds 2, and doubling time turns frames 0..k into 0..2k. All layers are restored once the last two
        inputs of each lie beyond them.
        """
        convs = 2 * (self.num_res_blocks + 1)
        stale, rate, need = 2 * (1 + 4), 1, 0  # conv_in and the four convolutions of the middle
        for doubles in (*reversed(self.temperal_downsample), False):
            stale += 2 * convs
            need = max(need, 1 + math.ceil((stale + 1) / rate))
            if doubles:
                stale, rate = 2 * (stale + 2) - 1, 2 * rate
        return need


def up_block(match: re.Match) -> str:
    """Rename a block of the original decoder, which numbers three residual blocks and an upsampler per resolution in a row."""
    stage, place = divmod(int(match[1]), 4)
    return f"decoder.up_blocks.{stage}." + ("upsamplers.0." if place == 3 else f"resnets.{place}.")


NAMES: weights.Names = (  # original Wan 2.1 and ComfyUI files to diffusers; its own names pass unchanged
    *weights.WRAPPERS,
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^((en|de)coder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"^decoder\.upsamples\.(\d+)\.", up_block),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def tiny(**changes: Any) -> WanVAEConfig:
    """Return a VAE config for tests: compression 4 in space and time, 3 channels."""
    small: dict[str, Any] = dict(
        base_dim=4, z_dim=3, dim_mult=(1, 2, 2), num_res_blocks=1, temperal_downsample=(True, True),
        latents_mean=(0.1, -0.2, 0.3), latents_std=(0.5, 1.5, 2.5), scale_factor_spatial=4,
    )  # fmt: skip
    return WanVAEConfig(**(small | changes))
