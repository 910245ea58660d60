"""The parts of a Wan checkpoint on disk and the shape of each, from its config.json or from file headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from longtake.models.checkpoints.loading import Names, WeightsError, as_config, brief, configure, read_json
from longtake.models.checkpoints.safetensors_headers import Entry, entries, numbered
from longtake.models.encoders import clip_vision as clip
from longtake.models.encoders import umt5
from longtake.models.encoders.clip_vision import ClipConfig
from longtake.models.encoders.t5 import T5Config
from longtake.models.wan import config as wan_config
from longtake.models.wan import vae_config as wan_vae_config
from longtake.models.wan.config import UNUSED, WanConfig
from longtake.models.wan.presets import Kind, Preset
from longtake.models.wan.vae_config import WanVAEConfig

Part = Literal["transformer", "vae", "text_encoder", "image_encoder"]
PARTS: tuple[Part, ...] = get_args(Part)
NAMES: Mapping[Part, Names] = {
    "transformer": wan_config.NAMES, "vae": wan_vae_config.NAMES, "text_encoder": umt5.NAMES, "image_encoder": clip.NAMES,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A checkpoint on disk.

    kind, brand: as far as its files state them. preset: the one that the user named. about: its longtake.json. second:
    the transformer for low sigmas, of a checkpoint with two.
    """

    path: Path
    style: Literal["diffusers", "original", "single files"]
    parts: Mapping[Part, tuple[Path, ...]]
    tokenizer: Path | None = None
    kind: Kind | None = None
    brand: str = ""
    preset: Preset | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    pickles: tuple[str, ...] = ()
    second: tuple[Path, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that are needed and not present."""
        needed = [part for part in PARTS if part != "image_encoder" or self.takes_clip]
        found = [part for part in needed if part not in self.parts]
        return (*found, *(["tokenizer"] if self.tokenizer is None else []))

    @property
    def takes_clip(self) -> bool:
        """Whether the network takes CLIP image tokens; a model of this project may use the concatenated image alone."""
        if self.kind != "i2v" or "transformer" not in self.parts:
            return self.kind == "i2v"
        return not (self.about or self.second) or takes_clip_tokens(self.entries("transformer"))

    def entries(self, part: Part) -> dict[str, Entry]:
        """Return the tensors of a part, with the names of diffusers and transformers."""
        return entries(self.parts[part], NAMES[part])


def shape_kind(tensors: Mapping[str, Entry]) -> Kind | None:
    """Return the kind if shapes determine it: only image-to-video and the checkpoint with a frame rate differ in shape."""
    if takes_clip_tokens(tensors) or takes_concat(tensors):
        return "i2v"
    return "df" if "fps_embedding.weight" in tensors else None


def takes_clip_tokens(tensors: Mapping[str, Entry]) -> bool:
    """Whether a network embeds CLIP tokens."""
    return any(name.startswith("condition_embedder.image_embedder.") for name in tensors)


def takes_concat(tensors: Mapping[str, Entry]) -> bool:
    """Whether a network takes more channels than it outputs."""
    first, last = tensors.get("patch_embedding.weight"), tensors.get("proj_out.weight")
    if first is None or last is None or len(first.shape) < 3:
        return False
    return first.shape[1] > last.shape[0] // math.prod(first.shape[2:])


def network(found: Layout) -> WanConfig:
    """Read the transformer's config: from config.json in a diffusers folder, else from the shapes of its tensors."""
    if found.style == "diffusers":
        config = configure(WanConfig, found.parts["transformer"][0].parent, UNUSED)
        return replace(
            config, **{key: found.about[key] for key in ("max_latent_frames", "block", "causal") if key in found.about}
        )
    tensors, stated = found.entries("transformer"), _original_config(found)
    counted = numbered(tensors, r"^blocks\.(\d+)\.")
    try:
        dim, channels, *patch = tensors["patch_embedding.weight"].shape
        heads = stated.num_heads or max(1, dim // 128)
        image = tensors.get("condition_embedder.image_embedder.norm1.weight")
        config = WanConfig(
            patch_size=tuple(patch),  # type: ignore[arg-type]
            num_attention_heads=heads,
            attention_head_dim=dim // heads,
            in_channels=channels,
            out_channels=tensors["proj_out.weight"].shape[0] // (patch[0] * patch[1] * patch[2]),
            text_dim=tensors["condition_embedder.text_embedder.linear_1.weight"].shape[1],
            freq_dim=tensors["condition_embedder.time_embedder.linear_1.weight"].shape[1],
            ffn_dim=tensors["blocks.0.ffn.net.0.proj.weight"].shape[0],
            num_layers=counted if stated.num_layers is None else stated.num_layers,
            eps=stated.eps,
            cross_attn_norm="blocks.0.norm2.weight" in tensors,
            image_dim=image.shape[0] if image else None,
            added_kv_proj_dim=dim if image else None,
            inject_sample_info="fps_embedding.weight" in tensors,
        )
    except (LookupError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"{found.path} holds no complete Wan transformer: {error}") from error
    if counted < config.num_layers:
        raise WeightsError(
            f"{found.path} holds {counted} of the {config.num_layers} layers that its config.json states: fetch the missing "
            "files again"
        )
    return config


@dataclass(frozen=True)
class OriginalConfig:
    """What is used of the config.json of an original folder: what no shape shows, and how many layers there must be."""

    num_heads: int | None = None
    num_layers: int | None = None
    eps: float = 1e-6


def _original_config(found: Layout) -> OriginalConfig:
    """Read the config.json of an original folder; an empty one if there is none (heads are then 128 wide each)."""
    file = found.path / "config.json"
    if not found.path.is_dir() or not file.exists():
        return OriginalConfig()
    return as_config(OriginalConfig, read_json(file), file)


def vae(found: Layout) -> WanVAEConfig:
    """Read the VAE's config in the same way."""
    if found.style == "diffusers":
        return configure(WanVAEConfig, found.parts["vae"][0].parent)
    tensors = found.entries("vae")
    try:
        width, latent = tensors["encoder.conv_in.weight"].shape[0], tensors["post_quant_conv.weight"].shape[0]
    except LookupError as error:
        raise WeightsError(
            f"{brief([str(f) for f in found.parts['vae']])} hold no complete Wan VAE: {error}"
        ) from error
    if latent != 16:
        raise WeightsError(f"this VAE has {latent} latent channels, and that of Wan 2.1 has 16: use the VAE of Wan 2.1")
    return WanVAEConfig(base_dim=width)


def words(found: Layout) -> T5Config:
    """Read the text encoder's config in the same way."""
    if found.style == "diffusers":
        return T5Config.read(found.parts["text_encoder"][0].parent)
    return umt5.shape(found.entries("text_encoder"))


def image_encoder(found: Layout) -> ClipConfig:
    """Read the image encoder's config in the same way; its heads are 80 wide, which no shape shows."""
    if found.style == "diffusers":
        return ClipConfig.read(found.parts["image_encoder"][0].parent)
    tensors = found.entries("image_encoder")
    try:
        width, _, patch, _ = tensors["embeddings.patch_embedding.weight"].shape
        places = tensors["embeddings.position_embedding.weight"].shape[-2] - 1
        feed = tensors["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (LookupError, ValueError) as error:
        raise WeightsError(f"{found.path} holds no complete CLIP image encoder: {error}") from error
    layers, size = numbered(tensors, r"^encoder\.layers\.(\d+)\."), patch * round(places**0.5)
    return ClipConfig(width, feed, layers, max(1, width // 80), size, patch)


def shape(config: WanConfig) -> dict[str, Any]:
    """Return the settings of a transformer that its weights determine."""
    return {
        f.name: getattr(config, f.name)
        for f in fields(WanConfig)
        if f.name not in ("max_latent_frames", "block", "causal")
    }
