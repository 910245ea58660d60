"""Where the parts of a Wan checkpoint are, found from file headers: no tensor is read, and no file name is trusted.

There are three layouts: a diffusers folder; the folder that Wan and SkyReels-V2 publish (config.json and safetensors, with
a VAE and encoders from `longtake convert`); and single files as ComfyUI keeps them, listed in a .toml file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from longtake.core.errors import InputError
from longtake.core.files import missing_path, read_toml
from longtake.models.checkpoints.configs import check_quantisation
from longtake.models.checkpoints.description import part_folder, read_description
from longtake.models.checkpoints.disk import PICKLED, WeightsError, brief, read_json
from longtake.models.checkpoints.part_files import check_pickle, check_shards, files, shards, weight_files
from longtake.models.checkpoints.safetensors_headers import header
from longtake.models.checkpoints.tensor_names import unwrapped
from longtake.models.wan.layout.components import PARTS, Layout, Part, network, shape, shape_kind
from longtake.models.wan.presets import KINDS, PRESETS, Kind, Preset, fitting, preset

SIGNS: Mapping[Part, str] = {  # tensor names that only this part has
    "image_encoder": r"^(visual\.|vision_model\.|embeddings\.(class|patch|position)_embedding|encoder\.layers\.)",
    "text_encoder": r"^(encoder\.block\.|shared\.|token_embedding\.|token_embd\.|enc\.blk\.|blocks\.\d+\.(attn\.[qkvo]\.|pos_embedding))",
    "vae": r"^(en|de)coder\.(conv|down|up|mid|head)",
    "transformer": r"^(blocks\.\d+\.(attn[12]|self_attn|cross_attn)\.|patch_embedding\.)",
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


def find(path: Path, named: Preset | None = None) -> Layout:
    """Find the parts of a checkpoint. Raises WeightsError if it is none, or if its files contradict each other."""
    if path.is_file():
        found = _listed(path) if path.suffix == ".toml" else _of_files(path, [path])
    elif (path / "model_index.json").exists() or (path / "longtake.json").exists():
        found = _diffusers(path)
    elif path.is_dir():
        found = _original(path)
    else:
        raise WeightsError(missing_path(path))
    found = replace(found, preset=named or found.preset)
    if bool(found.second) != bool(found.preset and found.preset.chain and found.preset.chain.switch):
        raise WeightsError(
            f"{path} is Wan 2.2 with two networks: name the preset that uses it, as in --model svi-2.0-pro={path}"
            if found.second
            else f"{path} has one network, but {found.preset and found.preset.name} needs the two of Wan 2.2 A14B"
        )
    return _agreed(found) if "transformer" in found.parts else found


def part_of(names: Iterable[str]) -> Part | None:
    """Return the part that has tensors of these names."""
    names = [unwrapped(name) for name in names]
    return next((part for part, sign in SIGNS.items() if any(re.search(sign, name) for name in names)), None)


# ---------------------------------------------------------------- layouts
def _diffusers(folder: Path) -> Layout:
    """Find the parts of a diffusers folder."""
    index = read_json(folder / "model_index.json") if (folder / "model_index.json").exists() else {}
    about = read_description(folder / "longtake.json") if (folder / "longtake.json").exists() else {}
    name = index.get("_class_name", "SkyReelsV2DiffusionForcingPipeline")
    if name not in PIPELINES:
        raise WeightsError(f"{folder} is for {name}, which is unknown here: there are {', '.join(PIPELINES)}")
    if index.get("expand_timesteps"):
        raise WeightsError(
            f"{folder} is Wan 2.2 5B, which is not supported: use a checkpoint of Wan 2.1 or SkyReels-V2"
        )
    second: tuple[Path, ...] = ()
    if (index.get("transformer_2") or [None])[0]:
        if not (folder / "transformer_2").is_dir():
            raise WeightsError(
                f"{folder} is Wan 2.2 with two networks and lacks transformer_2: copy the whole checkpoint"
            )
        second = tuple(files(folder / "transformer_2"))
    kind, brand = PIPELINES[name]
    kind = about.get("kind", kind)
    if kind not in KINDS:
        raise WeightsError(f"{folder / 'longtake.json'} states the kind {kind!r}: it must be one of {', '.join(KINDS)}")
    places = {part: place for part in PARTS if (place := part_folder(folder, part)).is_dir()}
    parts = {part: tuple(files(place)) for part, place in places.items()}
    tokenizer = next((place for name in TOKENIZERS if (place := part_folder(folder, name)).is_dir()), None)
    return Layout(folder, "diffusers", parts, tokenizer, kind, brand, about=about, second=second)


def _original(folder: Path) -> Layout:
    """Find the parts of a folder in the layout of Wan and SkyReels-V2, with all shards that its index or names list."""
    found = weight_files(folder)
    pickles = tuple(file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLED)
    if not found:
        hint = f", only pickles ({brief(pickles)}): run `longtake convert` on each first" if pickles else ""
        raise WeightsError(f"{folder} is no checkpoint: it holds no safetensors file{hint}")
    check_shards(found)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards(index)
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    check_quantisation(config, folder / "config.json")
    layout = replace(_of_files(folder, found), style="original", tokenizer=_tokenizer(folder), pickles=pickles)
    return replace(layout, brand="skyreels" if config.get("inject_sample_info") else "")


def _of_files(path: Path, found: Iterable[Path]) -> Layout:
    """Sort files by the part that they hold."""
    parts: dict[Part, tuple[Path, ...]] = {}
    for file in found:
        check_pickle(file)
        part = part_of(header(file))
        if part is None:
            raise WeightsError(f"{file} holds no part of a Wan checkpoint")
        parts[part] = (*parts.get(part, ()), file)
    return Layout(path, "single files", parts)


def _listed(file: Path) -> Layout:
    """Read a .toml file: preset = "NAME", and a path for every part and for the tokenizer, relative to it or absolute."""
    try:
        listed = read_toml(file)
    except InputError as error:
        raise WeightsError(str(error)) from error
    unknown = [key for key in listed if key not in (*PARTS, "tokenizer", "preset", "kind")]
    if unknown:
        raise WeightsError(f"{file} has {brief(unknown)}: it may have preset, kind, tokenizer, {', '.join(PARTS)}")
    if wrong := [key for key, value in listed.items() if not isinstance(value, str)]:
        raise WeightsError(f"{file} must state {wrong[0]} as a text, not {listed[wrong[0]]!r}")
    parts = {part: tuple(files(file.parent / listed[part])) for part in PARTS if part in listed}
    tokenizer = file.parent / listed["tokenizer"] if "tokenizer" in listed else None
    try:
        named = preset(listed["preset"]) if "preset" in listed else None
    except ValueError as error:
        raise WeightsError(f"{file}: {error}") from error
    if listed.get("kind") not in (None, *KINDS):
        raise WeightsError(f"{file} states the kind {listed['kind']!r}: it must be one of {', '.join(KINDS)}")
    return Layout(file, "single files", parts, tokenizer, listed.get("kind"), preset=named)


def _tokenizer(folder: Path) -> Path | None:
    return next((folder / name for name in TOKENIZERS if (folder / name).is_dir()), None)


def _agreed(found: Layout) -> Layout:
    """Return the layout with its kind, as far as it is known. Raises WeightsError if name, description and shape disagree."""
    shaped, config = shape_kind(found.entries("transformer")), network(found)
    stated = {"its preset": found.preset.kind if found.preset else None, "its description": found.kind}
    for who, kind in stated.items():
        if kind is not None and (kind == "i2v") != (shaped == "i2v"):
            raise WeightsError(
                f"{found.path}: {who} states {KINDS[kind]}, but the network takes {config.in_channels} channels"
                + (" and an image" if config.image_dim else " and no image")
            )
    if found.preset is not None:
        wrong = [key for key, value in found.preset.network.items() if getattr(config, key) != value]
        if wrong:
            raise WeightsError(
                f"{found.path} is not {found.preset.name}: {wrong[0]} is {getattr(config, wrong[0])}, "
                f"not {found.preset.network[wrong[0]]}"
            )
    kinds = {p.kind for p in fitting(shape(config))}
    only = kinds.pop() if len(kinds) == 1 else None
    return replace(found, kind=stated["its preset"] or stated["its description"] or shaped or only)


# ---------------------------------------------------------------- presets
def fitting_preset(found: Layout) -> Preset | None:
    """Return the preset of the checkpoint: the one that was named, else the first whose kind and shape fit."""
    if found.preset is not None or found.kind is None:
        return found.preset
    return next(iter(fitting(shape(network(found)), found.kind, found.brand)), None)


def undecided(found: Layout) -> str:
    """Describe what to do with a checkpoint whose files do not state its kind."""
    fit = [p.name for p in fitting(shape(network(found)))] or list(PRESETS)
    return (
        f"{found.path} does not state whether it is for diffusion forcing or for text to video, which have the same "
        f"shapes: name its preset, as in --model PRESET={found.path} ({brief(fit, 20)})"
    )
