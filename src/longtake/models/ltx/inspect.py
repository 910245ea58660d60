"""Describe an LTX-Video checkpoint from the headers of its files: sizes, dtypes, what is missing and what does not fit."""

from __future__ import annotations

from pathlib import Path

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.inspect import (
    PartReport,
    Report,
    compared_part,
    first_fault,
    licence_of,
    uncompared_report,
)
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.encoders.umt5 import NAMES
from longtake.models.ltx.config import LTXConfig
from longtake.models.ltx.latent_upsampler import LTXUpsampler, upsampler_config
from longtake.models.ltx.layout.files import Layout, find, fitting
from longtake.models.ltx.layout.settings import own_settings
from longtake.models.ltx.presets import LTXPreset
from longtake.models.ltx.text_encoder import read_tokenizer_of
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.ltx.vae import LTXVAE

KINDS = {"dev": "text, images and keyframes to video", "distilled": "text, images and keyframes to video, in few steps"}


def inspect(path: Path, preset: LTXPreset | None = None) -> Report:
    """Describe a checkpoint; the preset is the one that the user named. What cannot be found out is the report's fault."""
    try:
        found = find(path)
    except weights.WeightsError as error:
        return uncompared_report(path, "ltx", str(error))
    candidates = [] if found.about is not None else [preset] if preset is not None else fitting(found)
    kind = candidates[0].kind if candidates else "dev"
    layout = "diffusers layout" if (path / "transformer").is_dir() else "official file"
    return Report(
        str(path), "ltx", layout, kind, tuple(each.name for each in candidates), tuple(_parts(found)), (),
        licence_of(path, candidates), (), KINDS.get(kind, kind), _fault(found),
    )  # fmt: skip


def _fault(found: Layout) -> str:
    """Return why loading would refuse what no single part shows: its settings or its tokenizer."""
    about = found.about
    return first_fault(
        lambda: None if about is None else own_settings(about, found.path),
        lambda: read_tokenizer_of(found.texts / "tokenizer"),
    )


def _parts(found: Layout) -> list[PartReport]:
    """Compare every part with its network."""
    words = lambda config: f"{config.dim} wide, {config.num_layers} layers, {config.num_attention_heads} heads"
    sizes = lambda vae: (
        f"{vae.latent_channels} channels, {vae.temporal_compression}x time, {vae.spatial_compression}x space"
    )
    network: LTXConfig = found.network_config
    parts = [
        compared_part("transformer", found.network, found.network_names, lambda: network, LTXTransformer, words),
        compared_part("vae", found.vae, found.vae_names, lambda: found.vae_config, LTXVAE, sizes),
    ]
    text = found.texts / "text_encoder"
    try:
        files = weights.files(text)
    except weights.WeightsError as error:
        parts.append(PartReport("text_encoder", 0, 0, 0, (), fault=str(error)))
    else:
        layers = lambda config: f"{config.num_layers} layers"
        parts.append(compared_part("text_encoder", files, NAMES, lambda: T5Config.read(text), T5Encoder, layers))
    grow = found.upsampler
    if grow is not None:
        width = lambda config: f"{config.mid_channels} channels"
        files = weights.files(grow)
        parts.append(compared_part("latent_upsampler", files, (), lambda: upsampler_config(grow), LTXUpsampler, width))
    return parts
