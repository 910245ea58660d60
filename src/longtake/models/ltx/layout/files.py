"""Where the parts of an LTX-Video checkpoint are, found from configs and headers alone; no tensor is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.description import read_description
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.layout import single_file
from longtake.models.ltx.presets import LTX, LTXPreset
from longtake.models.ltx.vae_config import LTXVAEConfig


@dataclass(frozen=True)
class Layout:
    """A checkpoint on disk: the files and shapes of its parts.

    network, vae: their files, with config.json where they are folders. texts: the folder with text_encoder/ and tokenizer/.
    about: its longtake.json. sigmas: those that a distilled checkpoint allows.
    """

    path: Path
    network: tuple[Path, ...]
    vae: tuple[Path, ...]
    texts: Path
    network_config: LTXConfig
    vae_config: LTXVAEConfig
    network_names: weights.Names = ()
    vae_names: weights.Names = ()
    about: Mapping[str, Any] | None = None
    sigmas: tuple[float, ...] = ()
    upsampler: Path | None = None


def find(path: Path) -> Layout:
    """Find the parts of a checkpoint from configs and headers alone. Raises WeightsError for a missing part."""
    if path.is_file() or not (path / "transformer").is_dir():
        return _single(path)
    _check_texts(path, f"{path} lacks", "copy the whole checkpoint", ("vae", "text_encoder", "tokenizer"))
    network, vae = path / "transformer", path / "vae"
    vae_config = weights.configure(LTXVAEConfig, vae)
    config = weights.configure(LTXConfig, network)
    if "causal_temporal_positioning" not in weights.read_json(network / "config.json"):
        config = replace(config, causal_temporal_positioning=vae_config.encoder.grown)  # as released: from 0.9.5 on
    about = read_description(path / "longtake.json") if (path / "longtake.json").exists() else None
    grow = path / "latent_upsampler"
    return Layout(
        path, tuple(weights.files(network)), tuple(weights.files(vae)), path, _fitted(config, vae_config), vae_config,
        about=about, upsampler=grow if grow.is_dir() else None,
    )  # fmt: skip


def _check_texts(folder: Path, who: str, what: str, parts: Iterable[str] = ("text_encoder", "tokenizer")) -> None:
    """Raise WeightsError unless a folder has these folders."""
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise weights.WeightsError(f"{who} {', '.join(missing)}: {what}")


def _single(path: Path) -> Layout:
    """Find the parts of an official file, or of a file with the transformer alone that has the VAE beside it."""
    folder = path if path.is_dir() else path.parent
    network = _network_files(path)
    name = network[0].name
    _check_texts(folder, f"{folder} lacks", f"copy those folders of Lightricks/LTX-Video next to {name}")
    vae, vae_config, vae_names = _vae_of(network, folder)
    config = single_file.network(network, vae_config)
    allowed = single_file.allowed_sigmas(network[0])
    upscalers = sorted(folder.glob("ltxv-spatial-upscaler-*.safetensors"))
    return Layout(
        path, network, vae, folder, _fitted(config, vae_config), vae_config, single_file.NETWORK, vae_names,
        sigmas=allowed, upsampler=upscalers[-1] if upscalers else None,
    )  # fmt: skip


def _network_files(path: Path) -> tuple[Path, ...]:
    """Return the file with the transformer: the one that is given, or the only one (or its shards) in a folder."""
    if not path.is_dir():
        return tuple(weights.files(path))
    found = [file for file in weights.weight_files(path) if single_file.holds_network(file)]
    if not found:
        raise weights.WeightsError(f"{path} holds no file with an LTX transformer: copy the whole checkpoint")
    if len(found) > 1:
        listed = weights.files(path)
        if set(listed) != set(found):
            raise weights.WeightsError(f"{path} holds {weights.brief([f.name for f in found])}: name the one to read")
    return tuple(found)


def _vae_of(network: tuple[Path, ...], folder: Path) -> tuple[tuple[Path, ...], LTXVAEConfig, weights.Names]:
    """Return files, config and names of the VAE: in the transformer's own file, in vae/ beside it, or in a file beside it."""
    if single_file.holds_vae(network):
        config = single_file.vae(network)
        return network, config, single_file.vae_names(config)
    if (folder / "vae" / "config.json").exists():
        return tuple(weights.files(folder / "vae")), weights.configure(LTXVAEConfig, folder / "vae"), ()
    beside = [file for file in weights.weight_files(folder) if file not in network and single_file.holds_vae([file])]
    if len(beside) != 1:
        have = f"several ({weights.brief([f.name for f in beside])})" if beside else "none"
        raise weights.WeightsError(
            f"{network[0]} holds no VAE, and there is {have} beside it: put the folder vae/ of Lightricks/LTX-Video there, or "
            "one file with the VAE"
        )
    config = single_file.vae(beside)
    return tuple(beside), config, single_file.vae_names(config, single_file.has_prefix(beside))


def _fitted(config: LTXConfig, vae: LTXVAEConfig) -> LTXConfig:
    """Return the transformer's config with the frames and pixels per latent of its VAE."""
    if config.in_channels != vae.latent_channels:
        raise weights.WeightsError(
            f"the transformer takes {config.in_channels} channels, but the VAE has {vae.latent_channels}: use parts of one release"
        )
    return replace(config, temporal_compression=vae.temporal_compression, scale=vae.spatial_compression)


def fitting(found: Layout) -> list[LTXPreset]:
    """Return the released checkpoints that it may be, the likeliest first; by the VAE alone if no transformer fits.

    A file whose metadata lists the sigmas that it allows is distilled; files that list none count as not distilled.
    """
    kind = "distilled" if found.sigmas else "dev"
    era = (
        "0.9.5"
        if found.vae_config.encoder.grown
        else "0.9.1"
        if found.vae_config.decoder.timestep_conditioning
        else "0.9.0"
    )
    known = [preset for preset in LTX.values() if preset.vae == era]
    known = [preset for preset in known if preset.kind == kind] or known
    return [preset for preset in known if is_size_of(found, preset)] or known


def is_size_of(found: Layout, preset: LTXPreset) -> bool:
    """Whether the transformer has the size of a released checkpoint."""
    ours, theirs = found.network_config, preset.config()
    return (ours.dim, ours.num_layers) == (theirs.dim, theirs.num_layers)
