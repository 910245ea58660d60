"""The shape of an LTX VAE, how far its decoder lags, and the three shapes that were released."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from longtake.core.flat_config import from_flat, group, keyed

DECODE_TIMESTEP, DECODE_NOISE = 0.05, 0.025  # of a decoder that is the last denoising step, as published
STRIDES = {"conv": (2, 2, 2), "spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}


@dataclass(frozen=True)
class LTXEncoderConfig:
    """Shape of the encoder, from the frames to the latents.

    With down blocks of the kind 095, the width changes at the downsampling, and block_out_channels starts with the width
    before the first.
    """

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("LTXVideoDownBlock3D",) * 4
    layers_per_block: tuple[int, ...] = (4, 3, 3, 3, 4)
    spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    downsample_type: tuple[str, ...] = ("conv",) * 4
    causal: bool = keyed("encoder_causal", True)

    def __post_init__(self) -> None:
        _as_tuples(self)
        if not self.causal:
            raise ValueError("an LTX VAE has a causal encoder: encoder_causal must be true")
        if unknown := set(self.downsample_type) - set(STRIDES):
            raise ValueError(f"downsample_type {', '.join(sorted(unknown))} is unknown: there are {', '.join(STRIDES)}")

    @property
    def grown(self) -> bool:
        """Whether the width changes at the downsampling (0.9.5 and later)."""
        return self.down_block_types[-1] == "LTXVideo095DownBlock3D"

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths: before the first block, and after every block."""
        widths = self.block_out_channels
        return widths if self.grown else (*widths, widths[-1])

    @property
    def compression(self) -> tuple[int, int]:
        """Frames per latent after the first, and folded pixels per latent pixel, each way."""
        used = zip(self.downsample_type, self.spatio_temporal_scaling)
        strides = [STRIDES[kind if self.grown else "conv"] for kind, shrinks in used if shrinks]
        return math.prod(stride[0] for stride in strides), math.prod(stride[1] for stride in strides)


@dataclass(frozen=True)
class LTXDecoderConfig:
    """Shape of the decoder; its lists are ordered from the output to the latents."""

    block_out_channels: tuple[int, ...] = keyed("decoder_block_out_channels", (128, 256, 512, 512))
    layers_per_block: tuple[int, ...] = keyed("decoder_layers_per_block", (4, 3, 3, 3, 4))
    spatio_temporal_scaling: tuple[bool, ...] = keyed("decoder_spatio_temporal_scaling", (True, True, True, False))
    inject_noise: tuple[bool, ...] = keyed("decoder_inject_noise", (False,) * 5)
    upsample_residual: tuple[bool, ...] = (False,) * 4
    upsample_factor: tuple[int, ...] = (1,) * 4
    timestep_conditioning: bool = False
    causal: bool = keyed("decoder_causal", False)

    def __post_init__(self) -> None:
        _as_tuples(self)
        if self.causal:
            raise ValueError("an LTX VAE has a decoder that is not causal: decoder_causal must be false")

    @property
    def expansion(self) -> int:
        """Frames that one latent becomes, and folded pixels of a latent pixel, each way."""
        return 2 ** sum(self.spatio_temporal_scaling)

    @property
    def lag(self) -> int:
        """Output frames that a streaming decoder withholds until it gets more latents, or the end."""
        return self._delays[0]

    @property
    def replay_latents(self) -> int:
        """Latents that, replayed into a new decoder, restore the state of one that saw the whole clip."""
        return self._delays[1]

    @property
    def _delays(self) -> tuple[int, int]:
        """Compute (lag, replay latents) layer by layer, in frames at the rate of that layer.

        `lag` counts the withheld frames, and `stale` the frames at the start of a replay that differ: one more with each
        convolution, and the whole first chunk, which is shorter than later ones. A layer is restored once the last two
        frames that it saw lie beyond them.
        """
        lag, stale, rate, need = 0, 0, 1, 0
        layers = list(reversed(self.layers_per_block))
        convs = [1 + 2 * layers[0], *(2 * count for count in layers[1:])]
        convs[-1] += 1
        changes = self._changes()
        ups = (False, *reversed(self.spatio_temporal_scaling))
        for count, change, doubles in zip(convs, changes, ups, strict=True):
            for layer in range(2 * change + doubles + count):
                need = max(need, 1 + math.ceil((stale + lag + 1) / rate))
                lag, stale = lag + 1, stale + 1
                if doubles and layer == 2 * change:
                    lag, stale, rate = 2 * lag, 2 * stale - 1, 2 * rate
                stale = max(stale, -lag % rate + 1)
        return lag, need

    def _changes(self) -> list[bool]:
        """Return, for the middle and every stage of the decoder, whether a residual block before it changes the width."""
        return [False, *(dim != out for dim, out, _ in self.stages)]

    @property
    def stages(self) -> list[tuple[int, int, int]]:
        """(width before, width after, upsample factor) of every stage of the decoder, from the latents to the output."""
        factors, before = self.upsample_factor[::-1], self.block_out_channels[-1]
        found = []
        for width, factor in zip(reversed(self.block_out_channels), factors):
            found.append((before // factor, width // factor, factor))
            before = width // factor
        return found


@dataclass(frozen=True)
class LTXVAEConfig:
    """Shape of a VAE; the keys are those of diffusers' config.json, the defaults those of 0.9.0."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 128
    patch_size: int = 4
    patch_size_t: int = 1
    resnet_norm_eps: float = 1e-6
    scaling_factor: float = 1.0
    spatial_compression_ratio: int | None = None
    temporal_compression_ratio: int | None = None
    encoder: LTXEncoderConfig = group(LTXEncoderConfig)
    decoder: LTXDecoderConfig = group(LTXDecoderConfig)

    def __post_init__(self) -> None:
        if self.patch_size_t != 1 or self.scaling_factor != 1:
            raise ValueError("patch_size_t and scaling_factor of an LTX VAE must be 1")
        ups = self.decoder.expansion
        if (self.temporal_compression, self.spatial_compression) != (ups, ups * self.patch_size):
            raise ValueError(
                f"the encoder compresses {self.temporal_compression} frames and {self.spatial_compression} pixels into one, "
                f"but the decoder expands one to {ups} frames and {ups * self.patch_size} pixels"
            )

    @property
    def temporal_compression(self) -> int:
        """Frames per latent after the first."""
        return self.encoder.compression[0]

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent pixel, each way."""
        return self.encoder.compression[1] * self.patch_size


def _as_tuples(config: Any) -> None:
    """Turn the lists of a config, as JSON has them, into tuples."""
    for name, value in vars(config).items():
        if isinstance(value, list):
            object.__setattr__(config, name, tuple(value))


DECODER_091 = LTXDecoderConfig(
    block_out_channels=(256, 512, 1024),
    layers_per_block=(5, 6, 7, 8),
    spatio_temporal_scaling=(True, True, True),
    inject_noise=(True, True, True, False),
    upsample_residual=(True, True, True),
    upsample_factor=(2, 2, 2),
    timestep_conditioning=True,
)
LTX_090 = LTXVAEConfig()
LTX_091 = LTXVAEConfig(decoder=DECODER_091)
LTX_095 = LTXVAEConfig(  # to 0.9.8
    encoder=LTXEncoderConfig(
        block_out_channels=(128, 256, 512, 1024, 2048),
        down_block_types=("LTXVideo095DownBlock3D",) * 4,
        layers_per_block=(4, 6, 6, 2, 2),
        spatio_temporal_scaling=(True, True, True, True),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    ),
    decoder=replace(DECODER_091, layers_per_block=(5, 5, 5, 5), inject_noise=(False, False, False, False)),
)


def tiny(**changes: Any) -> LTXVAEConfig:
    """Return a VAE config for tests with the layout of 0.9.5: compression 8 in space and time, 4 channels.

    changes: other values of keys of config.json.
    """
    small: dict[str, Any] = dict(
        latent_channels=4, patch_size=1, block_out_channels=(4, 8, 16, 16, 16),
        down_block_types=("LTXVideo095DownBlock3D",) * 4, layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True,) * 4, downsample_type=LTX_095.encoder.downsample_type,
        decoder_block_out_channels=(16, 32, 64), decoder_layers_per_block=(1, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4,
        upsample_residual=(True,) * 3, upsample_factor=(2,) * 3, timestep_conditioning=True,
    )  # fmt: skip
    config: LTXVAEConfig = from_flat(LTXVAEConfig, small | changes)
    return config


def tiny_old(**changes: Any) -> LTXVAEConfig:
    """Return a VAE config for tests with the layout of 0.9.0."""
    widths = (4, 8, 12, 12)
    old: dict[str, Any] = dict(
        down_block_types=("LTXVideoDownBlock3D",) * 4, block_out_channels=widths, layers_per_block=(1, 2, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False), downsample_type=("conv",) * 4,
        decoder_block_out_channels=widths, decoder_layers_per_block=(1, 2, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True, True, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=False,
    )  # fmt: skip
    return tiny(**(old | changes))
