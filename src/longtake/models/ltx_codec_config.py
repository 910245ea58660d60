"""The shape of an LTX codec, how far its decoder lags, and the three shapes that were released."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

STRIDES = {"conv": (2, 2, 2), "spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}
TUPLES = (
    "block_out_channels", "down_block_types", "decoder_block_out_channels", "layers_per_block",
    "decoder_layers_per_block", "spatio_temporal_scaling", "decoder_spatio_temporal_scaling", "decoder_inject_noise",
    "downsample_type", "upsample_residual", "upsample_factor",
)  # fmt: skip


@dataclass(frozen=True)
class LTXCodecConfig:
    """Shape of a codec; the names are those of diffusers' config.json, the defaults are 0.9.0.

    Lists of the decoder are told from the output to the latents. With down blocks of the kind 095, the width changes
    where the picture shrinks, and block_out_channels begins with the width before the first.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 128
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("LTXVideoDownBlock3D",) * 4
    decoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: tuple[int, ...] = (4, 3, 3, 3, 4)
    decoder_layers_per_block: tuple[int, ...] = (4, 3, 3, 3, 4)
    spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    decoder_spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    decoder_inject_noise: tuple[bool, ...] = (False,) * 5
    downsample_type: tuple[str, ...] = ("conv",) * 4
    upsample_residual: tuple[bool, ...] = (False,) * 4
    upsample_factor: tuple[int, ...] = (1,) * 4
    timestep_conditioning: bool = False
    patch_size: int = 4
    patch_size_t: int = 1
    resnet_norm_eps: float = 1e-6
    scaling_factor: float = 1.0
    encoder_causal: bool = True
    decoder_causal: bool = False
    spatial_compression_ratio: int | None = None
    temporal_compression_ratio: int | None = None

    def __post_init__(self):
        for name in TUPLES:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.patch_size_t != 1 or self.scaling_factor != 1:
            raise ValueError("patch_size_t and scaling_factor of an LTX codec are 1")
        if not self.encoder_causal or self.decoder_causal:
            raise ValueError("an LTX codec has a causal encoder and a decoder that looks ahead")
        if unknown := set(self.downsample_type) - set(STRIDES):
            raise ValueError(f"downsample_type {', '.join(sorted(unknown))} is unknown: there are {', '.join(STRIDES)}")
        ups = 2 ** sum(self.decoder_spatio_temporal_scaling)
        if (self.stride, self.scale) != (ups, ups * self.patch_size):
            raise ValueError(
                f"the encoder makes 1 of {self.stride} frames and {self.scale} pixels, "
                f"but the decoder {ups} frames and {ups * self.patch_size} pixels of 1"
            )

    @property
    def grown(self) -> bool:
        """Whether the width changes where the picture shrinks (0.9.5 and later)."""
        return self.down_block_types[-1] == "LTXVideo095DownBlock3D"

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the encoder: before its first block, and after every one."""
        given = self.block_out_channels
        return given if self.grown else (*given, given[-1])

    @property
    def stride(self) -> int:
        """Frames per latent after the first."""
        return math.prod(self._strides(0))

    @property
    def scale(self) -> int:
        """Pixels per latent pixel, each way."""
        return math.prod(self._strides(1)) * self.patch_size

    def _strides(self, axis: int) -> list[int]:
        used = zip(self.downsample_type, self.spatio_temporal_scaling)
        return [STRIDES[kind if self.grown else "conv"][axis] for kind, shrinks in used if shrinks]

    @property
    def lag(self) -> int:
        """Output frames that a streaming decoder holds back until more latents come, or the end."""
        return self._delays[0]

    @property
    def reach(self) -> int:
        """Latents that, replayed into a new decoder, leave it as one that saw the whole take."""
        return self._delays[1]

    @property
    def _delays(self) -> tuple[int, int]:
        """(lag, reach). At the rate of the layer reached so far, `lag` counts the frames that are yet to come, and
        `stale` those at the start of a replay that differ: one more with each convolution, and all of the first chunk,
        which is shorter than the later ones. A layer is restored once the last two frames it saw lie beyond them.
        """
        lag, stale, rate, need = 0, 0, 1, 0
        layers = list(reversed(self.decoder_layers_per_block))
        convs = [1 + 2 * layers[0], *(2 * count for count in layers[1:])]
        convs[-1] += 1
        changes = self._changes()
        ups = (False, *reversed(self.decoder_spatio_temporal_scaling))
        for count, change, doubles in zip(convs, changes, ups, strict=True):
            for layer in range(2 * change + doubles + count):
                need = max(need, 1 + math.ceil((stale + lag + 1) / rate))
                lag, stale = lag + 1, stale + 1
                if doubles and layer == 2 * change:
                    lag, stale, rate = 2 * lag, 2 * stale - 1, 2 * rate
                stale = max(stale, -lag % rate + 1)
        return lag, need

    def _changes(self) -> list[bool]:
        """Of the middle and every stage of the decoder: whether a residual block before it changes the width."""
        return [False, *(dim != out for dim, out, _ in self.stages)]

    @property
    def stages(self) -> list[tuple[int, int, int]]:
        """(width before, width after, factor of the way up) of every stage of the decoder, from the latents on."""
        factors, before = self.upsample_factor[::-1], self.decoder_block_out_channels[-1]
        found = []
        for width, factor in zip(reversed(self.decoder_block_out_channels), factors):
            found.append((before // factor, width // factor, factor))
            before = width // factor
        return found


LTX_090 = LTXCodecConfig()
LTX_091 = LTXCodecConfig(
    decoder_block_out_channels=(256, 512, 1024),
    decoder_layers_per_block=(5, 6, 7, 8),
    decoder_spatio_temporal_scaling=(True, True, True),
    decoder_inject_noise=(True, True, True, False),
    upsample_residual=(True, True, True),
    upsample_factor=(2, 2, 2),
    timestep_conditioning=True,
)
LTX_095 = LTXCodecConfig(  # to 0.9.8
    block_out_channels=(128, 256, 512, 1024, 2048),
    down_block_types=("LTXVideo095DownBlock3D",) * 4,
    layers_per_block=(4, 6, 6, 2, 2),
    spatio_temporal_scaling=(True, True, True, True),
    downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    decoder_block_out_channels=(256, 512, 1024),
    decoder_layers_per_block=(5, 5, 5, 5),
    decoder_spatio_temporal_scaling=(True, True, True),
    decoder_inject_noise=(False, False, False, False),
    upsample_residual=(True, True, True),
    upsample_factor=(2, 2, 2),
    timestep_conditioning=True,
)


def tiny(**changes: Any) -> LTXCodecConfig:
    """The config of a codec for tests, with the layout of 0.9.5: 8x8 space, 8x time, 4 channels."""
    small: dict[str, Any] = dict(
        latent_channels=4, patch_size=1, block_out_channels=(4, 8, 16, 16, 16),
        down_block_types=("LTXVideo095DownBlock3D",) * 4, layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True,) * 4, downsample_type=LTX_095.downsample_type,
        decoder_block_out_channels=(16, 32, 64), decoder_layers_per_block=(1, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4,
        upsample_residual=(True,) * 3, upsample_factor=(2,) * 3, timestep_conditioning=True,
    )  # fmt: skip
    return LTXCodecConfig(**(small | changes))


def tiny_old(**changes: Any) -> LTXCodecConfig:
    """The same with the layout of 0.9.0."""
    widths = (4, 8, 12, 12)
    old: dict[str, Any] = dict(
        down_block_types=("LTXVideoDownBlock3D",) * 4, block_out_channels=widths, layers_per_block=(1, 2, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False), downsample_type=("conv",) * 4,
        decoder_block_out_channels=widths, decoder_layers_per_block=(1, 2, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True, True, False), decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4, upsample_factor=(1,) * 4, timestep_conditioning=False,
    )  # fmt: skip
    return tiny(**(old | changes))
