"""The parts of a Wan checkpoint on disk and the shape of each: from config.json where one describes it, else from headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from longtake.models import clip, umt5, wan, wan_codec
from longtake.models.clip import ClipConfig
from longtake.models.headers import Entry, entries, numbered
from longtake.models.presets import Kind, Preset
from longtake.models.text import T5Config
from longtake.models.wan import UNUSED, WanConfig
from longtake.models.wan_codec import WanCodecConfig
from longtake.models.weights import Names, WeightsError, brief, configure, read_json

Part = Literal["transformer", "vae", "text_encoder", "image_encoder"]
PARTS: tuple[Part, ...] = get_args(Part)
NAMES: Mapping[Part, Names] = {
    "transformer": wan.NAMES, "vae": wan_codec.NAMES, "text_encoder": umt5.NAMES, "image_encoder": clip.NAMES,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A checkpoint found on disk. kind and brand are as far as its files say; preset is the one that was named for it."""

    path: Path
    style: Literal["diffusers", "original", "single files"]
    parts: Mapping[Part, tuple[Path, ...]]
    tokenizer: Path | None = None
    kind: Kind | None = None
    brand: str = ""
    preset: Preset | None = None
    about: Mapping[str, Any] = field(default_factory=dict)  # longtake.json
    pickles: tuple[str, ...] = ()
    second: tuple[Path, ...] = ()  # the network for low noise levels, of a checkpoint with two

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that a video needs and that are not here."""
        needed = [part for part in PARTS if part != "image_encoder" or self.sees]
        found = [part for part in needed if part not in self.parts]
        return (*found, *(["tokenizer"] if self.tokenizer is None else []))

    @property
    def sees(self) -> bool:
        """Whether the network takes CLIP tokens of an image; one of our own may do with what is told beside x."""
        if self.kind != "i2v" or "transformer" not in self.parts:
            return self.kind == "i2v"
        return not (self.about or self.second) or sees_image(self.entries("transformer"))

    def entries(self, part: Part) -> dict[str, Entry]:
        """Tensors of a part, under the names of diffusers and transformers."""
        return entries(self.parts[part], NAMES[part])


def shape_kind(tensors: Mapping[str, Entry]) -> Kind | None:
    """The kind, where shapes tell it: only image to video and the checkpoint with a frame rate are shaped differently."""
    if sees_image(tensors) or told_beside(tensors):
        return "i2v"
    return "df" if "fps_embedding.weight" in tensors else None


def sees_image(tensors: Mapping[str, Entry]) -> bool:
    """Whether a network embeds CLIP tokens."""
    return any(name.startswith("condition_embedder.image_embedder.") for name in tensors)


def told_beside(tensors: Mapping[str, Entry]) -> bool:
    """Whether a network takes more channels than it gives."""
    taken, given = tensors.get("patch_embedding.weight"), tensors.get("proj_out.weight")
    if taken is None or given is None or len(taken.shape) < 3:
        return False
    return taken.shape[1] > given.shape[0] // math.prod(taken.shape[2:])


def network(found: Layout) -> WanConfig:
    """The config of the network: from its config.json in a diffusers folder, else from the shapes of its tensors."""
    if found.style == "diffusers":
        config = configure(WanConfig, found.parts["transformer"][0].parent, UNUSED)
        return replace(config, **{key: found.about[key] for key in ("view", "block", "causal") if key in found.about})
    tensors = found.entries("transformer")
    try:
        dim, channels, *patch = tensors["patch_embedding.weight"].shape
        image = tensors.get("condition_embedder.image_embedder.norm1.weight")
        config = WanConfig(
            patch_size=tuple(patch),  # type: ignore[arg-type]
            num_attention_heads=_heads(found, dim),
            attention_head_dim=dim // _heads(found, dim),
            in_channels=channels,
            out_channels=tensors["proj_out.weight"].shape[0] // (patch[0] * patch[1] * patch[2]),
            text_dim=tensors["condition_embedder.text_embedder.linear_1.weight"].shape[1],
            freq_dim=tensors["condition_embedder.time_embedder.linear_1.weight"].shape[1],
            ffn_dim=tensors["blocks.0.ffn.net.0.proj.weight"].shape[0],
            num_layers=numbered(tensors, r"^blocks\.(\d+)\."),
            cross_attn_norm="blocks.0.norm2.weight" in tensors,
            image_dim=image.shape[0] if image else None,
            added_kv_proj_dim=dim if image else None,
            inject_sample_info="fps_embedding.weight" in tensors,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{found.path} holds no whole Wan network: {error}") from error
    return config


def _heads(found: Layout, dim: int) -> int:
    """Attention heads, which no shape tells: as the original config.json says, else 128 wide as in every release."""
    file = found.path / "config.json"
    return read_json(file).get("num_heads", dim // 128) if file.exists() else max(1, dim // 128)


def codec(found: Layout) -> WanCodecConfig:
    """The config of the codec, likewise."""
    if found.style == "diffusers":
        return configure(WanCodecConfig, found.parts["vae"][0].parent)
    tensors = found.entries("vae")
    try:
        width, latent = tensors["encoder.conv_in.weight"].shape[0], tensors["post_quant_conv.weight"].shape[0]
    except KeyError as error:
        raise WeightsError(
            f"{brief([str(f) for f in found.parts['vae']])} holds no whole Wan codec: {error}"
        ) from error
    if latent != 16:
        raise WeightsError(f"a codec of {latent} latent channels is not that of Wan 2.1, which has 16")
    return WanCodecConfig(base_dim=width)


def words(found: Layout) -> T5Config:
    """The config of the text encoder, likewise."""
    if found.style == "diffusers":
        return T5Config.read(found.parts["text_encoder"][0].parent)
    return umt5.shape(found.entries("text_encoder"))


def eyes(found: Layout) -> ClipConfig:
    """The config of the image encoder, likewise; its heads are 80 wide, which no shape tells."""
    if found.style == "diffusers":
        return ClipConfig.read(found.parts["image_encoder"][0].parent)
    tensors = found.entries("image_encoder")
    try:
        width, _, patch, _ = tensors["embeddings.patch_embedding.weight"].shape
        places = tensors["embeddings.position_embedding.weight"].shape[-2] - 1
        feed = tensors["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{found.path} holds no whole CLIP image encoder: {error}") from error
    layers, size = numbered(tensors, r"^encoder\.layers\.(\d+)\."), patch * round(places**0.5)
    return ClipConfig(width, feed, layers, max(1, width // 80), size, patch)


def shape(config: WanConfig) -> dict[str, Any]:
    """What a checkpoint fixes of a network."""
    return {f.name: getattr(config, f.name) for f in fields(WanConfig) if f.name not in ("view", "block", "causal")}
