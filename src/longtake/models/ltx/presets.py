"""Released LTX-Video checkpoints by name: their shapes, and the settings published with them. Data; no torch.

Sources: the configs of Lightricks/LTX-Video, the diffusers conversions of its files, and its model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from longtake.core.guidance_settings import Guidance

if TYPE_CHECKING:
    from longtake.models.ltx.config import LTXConfig
    from longtake.models.ltx.vae_config import LTXVAEConfig

VAE = Literal["0.9.0", "0.9.1", "0.9.5"]
NEGATIVE = "worst quality, inconsistent motion, blurry, jittery, distorted"
TEXT_PARAMETERS = 4_762_310_656  # T5-v1.1-XXL encoder
UPSAMPLER_PARAMETERS = 126_250_624
VAE_PARAMETERS: Mapping[VAE, int] = {"0.9.0": 419_193_649, "0.9.1": 934_976_434, "0.9.5": 1_246_913_522}
CLIP = 193  # output frames of a clip of a relay: 8 seconds
COND_BLUR, COND_CRF = 1.0, 29  # input frames are blurred and compressed, so that a still image is no still video
PUBLISHED: Mapping[str, bool] = dict(sample_posterior=True, decode_context_noise=True, soft_on_schedule=True)
COND_NOISE = 0.15  # image_cond_noise_scale, "for motion continuity"


def quadratic(steps: int, threshold: float = 0.025) -> tuple[float, ...]:
    """Return the linear-quadratic sigmas before every step, without torch (see `longtake.core.sigmas`)."""
    line, rest = steps // 2, steps - steps // 2
    bend = (1 - threshold - threshold * rest / line) / rest**2
    return tuple(1 - threshold * i / line - bend * max(0, i - line) ** 2 for i in range(steps))


# sigmas of the distilled checkpoints: all eight; a two-stage run uses some of them in each stage
EIGHT = (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725, 0.4219)
NO_GUIDANCE = Guidance()
DEV_2B = Guidance(scale=(3.0,), stg_scale=(1.0,), guidance_rescale=(0.7,), blocks=((19,),), full_sample_stats=True)
DEV_13B = Guidance(
    scale=(1.0, 1.0, 6.0, 8.0, 6.0, 1.0, 1.0),
    stg_scale=(0.0, 0.0, 4.0, 4.0, 4.0, 2.0, 1.0),
    guidance_rescale=(0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0),  # published as 1, 1, 0.5...: there 1 turns it off
    blocks=((), (11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
    down_to=(1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    cfg_zero_star=True,
    full_sample_stats=True,
)
SECOND_13B = Guidance(stg_scale=(1.0,), blocks=((27,),), cfg_zero_star=True, full_sample_stats=True)


@dataclass(frozen=True)
class Second:
    """The second stage of a multi-scale run, at twice the size, from the upsampled latents of the first.

    first, second: sigmas before every step of each stage. tone: see `LatentDecoding.tone_map_compression`.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    guidance: Guidance = NO_GUIDANCE
    tone: float = 0.0


@dataclass(frozen=True)
class LTXPreset:
    """A released checkpoint, without its weights.

    network: settings that differ from the defaults of `LTXConfig`. vae: the release whose VAE it has. parameters: of the
    transformer. size: (height, width). frames: output frames of a clip. file: its name in Lightricks/LTX-Video. second: the
    second stage, if its latent upsampler is in the same folder.
    """

    name: str
    kind: Literal["dev", "distilled"]
    vae: VAE
    file: str
    network: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 1_923_385_472
    size: tuple[int, int] = (512, 768)
    frames: int = 121
    fps: float = 24.0
    steps: int = 40
    guide: Guidance = DEV_2B
    solver: str = "euler"
    hub: str | None = None
    original: str | None = None
    revision: str | None = None
    licence: str = "ltx-video-open-weights"
    requested_gb: float | None = None
    negative: str = NEGATIVE
    second: Second | None = None

    family = "ltx"
    plan = "relay"

    @property
    def guidance(self) -> float:
        """The largest guidance scale."""
        return max(self.guide.scale)

    @property
    def max_latent_frames(self) -> int:
        """Latent frames of a clip."""
        return 1 + (self.frames - 1) // 8

    @property
    def tokens(self) -> int:
        """Tokens of one latent frame at `size`."""
        return (self.size[0] // 32) * (self.size[1] // 32)

    @property
    def sampling(self) -> dict[str, Any]:
        """Options that suit the checkpoint under any strategy; the shift of the first two releases is that of a clip."""
        from longtake.core.sigmas import token_shift

        if self.vae in ("0.9.0", "0.9.1"):
            return dict(
                steps=self.steps, shift=token_shift((1 + (CLIP - 1) // 8) * self.tokens), sigma_spacing="terminal"
            )
        return dict(steps=self.steps, shift=1.0, sigma_spacing="quadratic")

    @property
    def options(self) -> dict[str, Any]:
        """Options of its own strategy."""
        return {**self.sampling, "window": CLIP, "overlap": 1, "image_cond_noise_scale": COND_NOISE}

    def config(self) -> LTXConfig:
        """Return the shape of the transformer."""
        from longtake.models.ltx.config import LTXConfig

        return LTXConfig(**self.network, causal_temporal_positioning=self.vae == "0.9.5")

    def vae_config(self) -> LTXVAEConfig:
        """Return the shape of the VAE."""
        from longtake.models.ltx.vae_config import LTX_090, LTX_091, LTX_095

        return {"0.9.0": LTX_090, "0.9.1": LTX_091, "0.9.5": LTX_095}[self.vae]

    def gigabytes(self) -> dict[str, float]:
        """Return the weights of every part in GB (10^9 bytes): bfloat16, except for the VAE in float32."""
        parts = {"network": 2 * self.parameters, "text encoder": 2 * TEXT_PARAMETERS}
        parts["vae"] = 4 * VAE_PARAMETERS[self.vae]
        if self.second is not None:
            parts["upsampler"] = 2 * UPSAMPLER_PARAMETERS
        return {name: count / 1e9 for name, count in parts.items()}

    def how_to_get(self) -> str:
        """Say where to get weights that no repository holds in the diffusers layout."""
        return f"{self.name} is the file {self.file} of Lightricks/LTX-Video: fetch it and give {self.name}=FILE"


_13B: dict[str, Any] = dict(
    network=dict(attention_head_dim=128, cross_attention_dim=4096, num_layers=48), parameters=13_042_569_344,
    size=(704, 1216),
)  # fmt: skip
_DISTILLED: dict[str, Any] = dict(kind="distilled", steps=8, guide=NO_GUIDANCE)
_PASSES = Second(EIGHT[:7], EIGHT[5:])
_DEV_PASSES: dict[str, Any] = dict(steps=30, guide=DEV_13B)
_HUB = "Lightricks/LTX-Video"

LTX: dict[str, LTXPreset] = {
    preset.name: preset
    for preset in (
        LTXPreset("ltx-2b-0.9.0", "dev", "0.9.0", "ltx-video-2b-v0.9.safetensors", hub=_HUB),
        LTXPreset("ltx-2b-0.9.1", "dev", "0.9.1", "ltx-video-2b-v0.9.1.safetensors"),
        LTXPreset("ltx-2b-0.9.5", "dev", "0.9.5", "ltx-video-2b-v0.9.5.safetensors", hub=f"{_HUB}-0.9.5"),
        LTXPreset("ltx-2b-0.9.6-dev", "dev", "0.9.5", "ltxv-2b-0.9.6-dev-04-25.safetensors"),
        LTXPreset(
            "ltx-2b-0.9.6-distilled", vae="0.9.5", file="ltxv-2b-0.9.6-distilled-04-25.safetensors",
            **_DISTILLED, solver="stochastic",
        ),
        LTXPreset(
            "ltx-2b-0.9.8-distilled", vae="0.9.5", file="ltxv-2b-0.9.8-distilled.safetensors", **_DISTILLED,
            second=_PASSES,
        ),
        LTXPreset(
            "ltx-13b-0.9.7-dev", "dev", "0.9.5", "ltxv-13b-0.9.7-dev.safetensors", hub=f"{_HUB}-0.9.7-dev", **_13B,
            **_DEV_PASSES, second=Second(quadratic(30)[:27], quadratic(30)[17:], SECOND_13B),
        ),
        LTXPreset(
            "ltx-13b-0.9.7-distilled", vae="0.9.5", file="ltxv-13b-0.9.7-distilled.safetensors",
            hub=f"{_HUB}-0.9.7-distilled", **_13B, **_DISTILLED, second=_PASSES,
        ),
        LTXPreset(
            "ltx-13b-0.9.8-dev", "dev", "0.9.5", "ltxv-13b-0.9.8-dev.safetensors", **_13B, **_DEV_PASSES,
            second=Second(quadratic(30)[:27], quadratic(30)[17:], SECOND_13B),
        ),
        LTXPreset(
            "ltx-13b-0.9.8-distilled", vae="0.9.5", file="ltxv-13b-0.9.8-distilled.safetensors",
            hub=f"{_HUB}-0.9.8-13B-distilled", **_13B, **_DISTILLED, second=Second(EIGHT[:7], EIGHT[5:], tone=0.6),
        ),
    )
}  # fmt: skip
