"""What a plan costs a Wan checkpoint, before its weights are there: from a preset, or from the headers of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from longtake.core.guidance_settings import Guidance
from longtake.core.profiling import on_meta
from longtake.core.units import check_pixels
from longtake.models.encoders.clip_vision import ClipConfig, ClipVision
from longtake.models.model import Model, ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.spec import CheckpointSpec, MetaModel
from longtake.models.wan import svi
from longtake.models.wan.config import WanConfig
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.models.wan.layout import components
from longtake.models.wan.layout.files import find
from longtake.models.wan.layout.settings import CONTEXT, limits, stated_settings, video_format
from longtake.models.wan.presets import TEXT_PARAMETERS, Preset, SviChaining
from longtake.models.wan.session import WanSession
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.planning.limits import Limits

OWN_WORDS = 32  # tokens of a prompt of our own small models


@dataclass(frozen=True)
class WanNetworks:
    """The networks of a Wan checkpoint on the meta device: the `MetaNetworks` of the family.

    words: tokens of a prompt. image_encoder: its CLIP, if it has one. chain: how Stable Video Infinity chains
    clips; it may need two networks, each for some of the noise levels.
    """

    network: WanConfig
    vae: WanVAEConfig
    format: VideoFormat
    limits: Limits
    defaults: SamplingDefaults
    words: int = 512
    image_encoder: ClipConfig | None = None
    text_bytes: int = 0
    dtype: torch.dtype = torch.bfloat16
    chain: SviChaining | None = None

    @property
    def layers(self) -> int:
        """Layers of the transformer."""
        return self.network.num_layers

    @property
    def copies(self) -> int:
        """How many transformers of this shape there are."""
        return 2 if self.chain and self.chain.switch else 1

    def transformer(self) -> nn.Module:
        """Return the whole transformer."""
        return on_meta(lambda: WanTransformer(self.network), self.dtype)

    def on_meta(self, layers: int) -> MetaModel:
        """Return the model with the first `layers` layers of its transformer."""
        net = on_meta(lambda: WanTransformer(replace(self.network, num_layers=layers)), self.dtype)
        vae = on_meta(lambda: WanVAE(self.vae), torch.float32)
        parts: dict[str, nn.Module] = {"network": net, "vae": vae}
        conditioner: Any = None
        if self.limits.conditioning == "concat":
            if self.image_encoder is not None:
                parts["image encoder"] = on_meta(lambda: ClipVision(self.image_encoder or ClipConfig()), torch.float32)
            encoder: Any = parts.get("image encoder")
            conditioner = (
                svi.image_conditioner(self.chain, vae, encoder) if self.chain else ImageConditioner(vae, encoder)
            )
        sessions: WeakSet[WanSession] = WeakSet()

        def session() -> WanSession:
            made = WanSession(net, True, conditioner)
            sessions.add(made)
            return made

        model = Model(
            ModelInfo("meta", "wan"), self.format, self.limits, session, vae, MetaTextEncoder(self),
            SamplingDefaults(guidance=self.defaults.guidance), device="meta",
        )  # fmt: skip
        return MetaModel(model, parts, lambda: cached_bytes(sessions))

    def step_flops(self, frames: int, layers: int | None = None, words: int | None = None) -> float:
        """Count the operations of one step over `frames` latent frames with one branch of guidance."""
        config = self.network if layers is None else replace(self.network, num_layers=layers)
        return flops(config, self.format.tokens_per_frame, frames, self.words if words is None else words)


class MetaTextEncoder:
    """A text encoder whose embeddings have a shape and no memory."""

    def __init__(self, networks: WanNetworks):
        self.shape, self.dtype = (networks.words, networks.network.text_dim), networks.dtype

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return embeddings (P, L, D) on the meta device."""
        return torch.empty(len(prompts), *self.shape, device="meta", dtype=self.dtype)

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """Return no words: every prompt is understood."""
        return ()

    def cut_off(self, prompt: str) -> str:
        """Return nothing: prompts are not read."""
        return ""


def cached_bytes(sessions: WeakSet[WanSession]) -> tuple[int, int]:
    """Count the bytes of remembered frames and of prompts that all sessions hold."""
    memories = [session.kv_cache for session in sessions if session.kv_cache is not None]
    texts = [memory for session in sessions for memory in session.texts.values()]
    return (
        sum(t.nbytes for memory in memories for t in (*memory.keys, *memory.values)),
        sum(t.nbytes for memory in texts for layer in memory.layers for t in layer),
    )


def flops(config: WanConfig, tokens: int, frames: int, words: int = 512, image_tokens: int = 257) -> float:
    """Count the operations of one forward pass of a transformer without a mask, from its shape.

    Per token: 8 D^2 in self-attention's and 4 D^2 in cross-attention's matrices, 4 D ffn_dim in the feed-forward, 4 L D in
    attention to L tokens, 4 D words in attention to the text (and to the tokens of an image).
    """
    dim, length = config.dim, frames * tokens
    cross = words + (image_tokens if config.image_dim is not None else 0)
    layer = length * dim * (12 * dim + 4 * config.ffn_dim + 4 * length + 4 * cross)
    area = config.patch_size[1] * config.patch_size[2]
    ends = 2 * length * dim * area * (config.in_channels + config.out_channels)
    return config.num_layers * layer + ends


# ---------------------------------------------------------------- from presets and files
def spec(path: Path | None, preset: Preset | None, size: tuple[int, int] | None = None) -> CheckpointSpec:
    """Describe a checkpoint on disk, or a released one. size: (height, width), if not its own.

    Raises WeightsError for files that are no Wan checkpoint, and SettingsError for a size of no whole tokens.
    """
    if path is not None:
        return _of_files(path, preset, size)
    assert preset is not None
    return _of_preset(preset, size)


def _of_preset(known: Preset, size: tuple[int, int] | None) -> CheckpointSpec:
    own = Limits(known.max_latent_frames, per_frame_sigma=known.kind == "df", conditioning=CONTEXT[known.kind])
    config, vae = known.config(), known.vae()
    defaults = SamplingDefaults(
        known.plan, known.options, known.sampling, Guidance((known.guidance,)), known.negative, known.solver
    )
    networks = WanNetworks(
        config, vae, sized_format(VideoFormat(known.fps, known.size), vae, config, size), own, defaults,
        image_encoder=ClipConfig() if "image_dim" in known.network else None, text_bytes=2 * TEXT_PARAMETERS, chain=known.chain,
    )  # fmt: skip
    return CheckpointSpec(known.name, networks.format, own, defaults, vae.temporal_compression, networks)


def _of_files(path: Path, preset: Preset | None, size: tuple[int, int] | None) -> CheckpointSpec:
    found = find(path, preset)
    stated, own = stated_settings(found), bool(found.about)
    config, vae = components.network(found), components.vae(found)
    if stated.max_latent_frames is not None:
        config = replace(config, max_latent_frames=stated.max_latent_frames)
    networks = WanNetworks(
        config, vae, sized_format(stated.format, vae, config, size), limits(config, found.kind or "df"), stated.defaults,
        words=OWN_WORDS if own else 512,
        image_encoder=components.image_encoder(found) if "image_encoder" in found.parts else None,
        text_bytes=sum(entry.bytes for entry in found.entries("text_encoder").values()),
        dtype=torch.float32 if own else torch.bfloat16,
    )  # fmt: skip
    return CheckpointSpec(
        stated.info.name, networks.format, networks.limits, stated.defaults, vae.temporal_compression, networks
    )


def sized_format(own: VideoFormat, vae: WanVAEConfig, network: WanConfig, size: tuple[int, int] | None) -> VideoFormat:
    """Return the format at (height, width). Raises SettingsError with the nearest size of whole tokens."""
    found = video_format(own if size is None else replace(own, size=size), vae, network)
    check_pixels(found.size, found.size_multiple)
    return found
