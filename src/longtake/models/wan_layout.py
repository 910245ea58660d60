"""Where the parts of a Wan checkpoint lie, and what they are, told from file headers: no tensor is read, no name trusted.

Three layouts: a diffusers folder; the folder that Wan and SkyReels-V2 publish (config.json beside safetensors, whose
codec and encoders come from `longtake convert`); and single files as ComfyUI keeps them, listed in a .toml file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from longtake.models import clip, umt5, wan, wan_codec
from longtake.models.clip import ClipConfig
from longtake.models.headers import Entry, entries, header, numbered
from longtake.models.presets import KINDS, PRESETS, Kind, Preset, fitting, preset
from longtake.models.text import T5Config
from longtake.models.wan import UNUSED, WanConfig
from longtake.models.wan_codec import WanCodecConfig
from longtake.models.weights import PICKLED, Names, WeightsError, brief, configure, files, read_json

Part = Literal["transformer", "vae", "text_encoder", "image_encoder"]
PARTS: tuple[Part, ...] = get_args(Part)
NAMES: Mapping[Part, Names] = {
    "transformer": wan.NAMES, "vae": wan_codec.NAMES, "text_encoder": umt5.NAMES, "image_encoder": clip.NAMES,
}  # fmt: skip
SIGNS: Mapping[Part, str] = {  # names that only this part has
    "image_encoder": r"^(visual\.|vision_model\.|embeddings\.(class|patch|position)_embedding|encoder\.layers\.)",
    "text_encoder": r"^(encoder\.block\.|shared\.|token_embedding\.|blocks\.\d+\.(attn\.[qkvo]\.|pos_embedding))",
    "vae": r"^(en|de)coder\.(conv|down|up|mid|head)",
    "transformer": r"^(model\.diffusion_model\.)?(blocks\.\d+\.(attn[12]|self_attn|cross_attn)\.|patch_embedding\.)",
}
PIPELINES: Mapping[str, tuple[Kind, str]] = {  # class in model_index.json -> kind, and how its presets' names begin
    "SkyReelsV2DiffusionForcingPipeline": ("df", "skyreels"),
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": ("df", "skyreels"),
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": ("df", "skyreels"),
    "SkyReelsV2Pipeline": ("t2v", "skyreels"),
    "SkyReelsV2ImageToVideoPipeline": ("i2v", "skyreels"),
    "WanPipeline": ("t2v", "wan"),
    "WanVideoToVideoPipeline": ("t2v", "wan"),
    "WanImageToVideoPipeline": ("i2v", "wan"),
}
TOKENIZERS = ("tokenizer", "google/umt5-xxl")


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

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that a video needs and that are not here."""
        needed = [part for part in PARTS if part != "image_encoder" or self.kind == "i2v"]
        found = [part for part in needed if part not in self.parts]
        return (*found, *(["tokenizer"] if self.tokenizer is None else []))

    def entries(self, part: Part) -> dict[str, Entry]:
        """Tensors of a part, under the names of diffusers and transformers."""
        return entries(self.parts[part], NAMES[part])


def find(path: Path, named: Preset | None = None) -> Layout:
    """The checkpoint at a path. WeightsError says why it is none, or which of its files contradict each other."""
    if path.is_file():
        found = _listed(path) if path.suffix == ".toml" else _of_files(path, [path])
    elif (path / "model_index.json").exists() or (path / "longtake.json").exists():
        found = _diffusers(path)
    elif path.is_dir():
        found = _original(path)
    else:
        raise WeightsError(f"there is nothing at {path}: give a folder or a file of weights")
    found = replace(found, preset=named or found.preset)
    return _agreed(found) if "transformer" in found.parts else found


def part_of(names: Iterable[str]) -> Part | None:
    """Which part has tensors of these names."""
    names = list(names)
    return next((part for part, sign in SIGNS.items() if any(re.search(sign, name) for name in names)), None)


# ---------------------------------------------------------------- layouts
def _diffusers(folder: Path) -> Layout:
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").exists() else {}
    about = read_json(folder / "longtake.json") if (folder / "longtake.json").exists() else {}
    name = index.get("_class_name", "SkyReelsV2DiffusionForcingPipeline")
    if name not in PIPELINES:
        raise WeightsError(f"{folder} is for {name}, which is unknown here: there are {', '.join(PIPELINES)}")
    if (index.get("transformer_2") or [None])[0] or index.get("expand_timesteps"):
        raise WeightsError(f"{folder} is Wan 2.2, which is not supported: use a checkpoint of Wan 2.1 or SkyReels-V2")
    kind, brand = PIPELINES[name]
    kind = about.get("kind", kind)
    if kind not in KINDS:
        raise WeightsError(f"{folder / 'longtake.json'} says kind {kind!r}: it is one of {', '.join(KINDS)}")
    parts = {part: tuple(files(folder / part)) for part in PARTS if (folder / part).is_dir()}
    return Layout(folder, "diffusers", parts, _tokenizer(folder), kind, brand, about=about)


def _original(folder: Path) -> Layout:
    found = sorted(folder.glob("*.safetensors"))
    pickles = tuple(file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLED)
    if not found:
        hint = f", only pickles ({brief(pickles)}): run `longtake convert` on each first" if pickles else ""
        raise WeightsError(f"{folder} is no checkpoint: it holds no safetensors file{hint}")
    layout = replace(_of_files(folder, found), style="original", tokenizer=_tokenizer(folder), pickles=pickles)
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    return replace(layout, brand="skyreels" if config.get("inject_sample_info") else "")


def _of_files(path: Path, found: Iterable[Path]) -> Layout:
    """Files sorted by what is in them."""
    parts: dict[Part, tuple[Path, ...]] = {}
    for file in found:
        if file.suffix in PICKLED:
            raise WeightsError(f"{file} is a pickle, which can run code: `longtake convert` it to safetensors first")
        part = part_of(header(file))
        if part is None:
            raise WeightsError(f"{file} holds no part of a Wan checkpoint")
        parts[part] = (*parts.get(part, ()), file)
    return Layout(path, "single files", parts)


def _listed(file: Path) -> Layout:
    """A .toml file: preset = "NAME", and a path for every part and for the tokenizer, beside the file or absolute."""
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error
    strange = [key for key in told if key not in (*PARTS, "tokenizer", "preset", "kind")]
    if strange:
        raise WeightsError(f"{file} says {brief(strange)}: it may say preset, kind, tokenizer, {', '.join(PARTS)}")
    parts = {part: tuple(files(file.parent / told[part])) for part in PARTS if part in told}
    tokenizer = file.parent / told["tokenizer"] if "tokenizer" in told else None
    try:
        named = preset(told["preset"]) if "preset" in told else None
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from error
    if told.get("kind") not in (None, *KINDS):
        raise WeightsError(f"{file} says kind {told['kind']!r}: it is one of {', '.join(KINDS)}")
    return Layout(file, "single files", parts, tokenizer, told.get("kind"), preset=named)


def _tokenizer(folder: Path) -> Path | None:
    return next((folder / name for name in TOKENIZERS if (folder / name).is_dir()), None)


def _agreed(found: Layout) -> Layout:
    """The layout with its kind settled, as far as it can be: named, declared, and shaped it must be the same."""
    shaped, config = shape_kind(found.entries("transformer")), network(found)
    said = {"its preset": found.preset.kind if found.preset else None, "its description": found.kind}
    for who, kind in said.items():
        if kind is not None and (kind == "i2v") != (shaped == "i2v"):
            raise WeightsError(
                f"{found.path}: {who} says {KINDS[kind]}, but the network takes {config.in_channels} channels"
                + (" and an image" if config.image_dim else " and no image")
            )
    if found.preset is not None:
        wrong = [key for key, value in found.preset.network.items() if getattr(config, key) != value]
        if wrong:
            raise WeightsError(
                f"{found.path} is no {found.preset.name}: {wrong[0]} is {getattr(config, wrong[0])}, "
                f"not {found.preset.network[wrong[0]]}"
            )
    kinds = {p.kind for p in fitting(shape(config))}
    only = kinds.pop() if len(kinds) == 1 else None
    return replace(found, kind=said["its preset"] or said["its description"] or shaped or only)


# ---------------------------------------------------------------- shapes
def shape_kind(tensors: Mapping[str, Entry]) -> Kind | None:
    """The kind, where shapes tell it: only image to video and the checkpoint with a frame rate are shaped differently."""
    if any(name.startswith("condition_embedder.image_embedder.") for name in tensors):
        return "i2v"
    return "df" if "fps_embedding.weight" in tensors else None


def network(found: Layout) -> WanConfig:
    """The config of the network: from its config.json in a diffusers folder, else from the shapes of its tensors."""
    if found.style == "diffusers":
        config = configure(WanConfig, found.path / "transformer", UNUSED)
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
        return configure(WanCodecConfig, found.path / "vae")
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
        return T5Config.read(found.path / "text_encoder")
    return umt5.shape(found.entries("text_encoder"))


def eyes(found: Layout) -> ClipConfig:
    """The config of the image encoder, likewise; its heads are 80 wide, which no shape tells."""
    if found.style == "diffusers":
        return ClipConfig.read(found.path / "image_encoder")
    tensors = found.entries("image_encoder")
    try:
        width, _, patch, _ = tensors["embeddings.patch_embedding.weight"].shape
        places = tensors["embeddings.position_embedding.weight"].shape[-2] - 1
        feed = tensors["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{found.path} holds no whole CLIP image encoder: {error}") from error
    layers, size = numbered(tensors, r"^encoder\.layers\.(\d+)\."), patch * round(places**0.5)
    return ClipConfig(width, feed, layers, max(1, width // 80), size, patch)


def settings(found: Layout) -> Preset | None:
    """The preset whose kind and shape the checkpoint has: the one that was named, else the first that fits."""
    if found.preset is not None or found.kind is None:
        return found.preset
    return next(iter(fitting(shape(network(found)), found.kind, found.brand)), None)


def undecided(found: Layout) -> str:
    """What to say of a checkpoint whose files do not tell its kind."""
    fit = [p.name for p in fitting(shape(network(found)))] or list(PRESETS)
    return (
        f"{found.path} does not say whether it is made for diffusion forcing or for text to video, which have the same "
        f"shapes: name its preset, as in --model PRESET={found.path} ({brief(fit, 20)})"
    )


def shape(config: WanConfig) -> dict[str, Any]:
    """What a checkpoint fixes of a network."""
    return {f.name: getattr(config, f.name) for f in fields(WanConfig) if f.name not in ("view", "block", "causal")}
