"""Where the parts of a Wan checkpoint lie, and what they are, told from file headers: no tensor is read, no name trusted.

Three layouts: a diffusers folder; the folder that Wan and SkyReels-V2 publish (config.json beside safetensors, whose
codec and encoders come from `longtake convert`); and single files as ComfyUI keeps them, listed in a .toml file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from longtake.models.headers import header
from longtake.models.presets import KINDS, PRESETS, Kind, Preset, fitting, wan
from longtake.models.wan_parts import PARTS, Layout, Part, network, shape, shape_kind
from longtake.models.weights import PICKLED, WeightsError, brief, files, read_json

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
    if bool(found.second) != bool(found.preset and found.preset.chain and found.preset.chain.switch):
        raise WeightsError(
            f"{path} is Wan 2.2 with two networks: name how it is used, as in --model svi-2.0-pro={path}"
            if found.second
            else f"{path} has one network, and {found.preset and found.preset.name} takes the two of Wan 2.2 A14B"
        )
    return _agreed(found) if "transformer" in found.parts else found


def part_folder(folder: Path, name: str) -> Path:
    """Where a part of a diffusers folder lies: in it, or, if longtake.json says `shares`, in that folder beside it."""
    about = folder / "longtake.json"
    lender = read_json(about).get("shares") if about.exists() and not (folder / name).is_dir() else None
    return folder.parent / lender / name if lender else folder / name


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
        raise WeightsError(f"{folder / 'longtake.json'} says kind {kind!r}: it is one of {', '.join(KINDS)}")
    places = {part: place for part in PARTS if (place := part_folder(folder, part)).is_dir()}
    parts = {part: tuple(files(place)) for part, place in places.items()}
    tokenizer = next((place for name in TOKENIZERS if (place := part_folder(folder, name)).is_dir()), None)
    return Layout(folder, "diffusers", parts, tokenizer, kind, brand, about=about, second=second)


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
        named = wan(told["preset"]) if "preset" in told else None
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


# ---------------------------------------------------------------- presets
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
