"""The parts of a network of tokens in training: network, VAE and text encoder, which have to fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longtake.core.errors import ConfigError
from longtake.models.checkpoints.loading import part_files
from longtake.train.multi_resolution.config import MultiResolutionConfig
from longtake.train.run.device import process_device
from longtake.train.run.distributed import reporting
from longtake.train.weights.families import default_family, load_vae, training_hooks
from longtake.train.weights.init_weights import InitWeights, network
from longtake.train.weights.missing_parts import given_text_encoder, given_vae
from longtake.train.weights.text_encoders import text_encoder_files


@dataclass(frozen=True)
class TokenComponents:
    """A network in training with the frozen parts around it. init_files: from which the network was initialised."""

    family: str
    network: Any
    init_files: Sequence[Path]
    vae_folder: Path
    vae: Any
    text_folder: Path
    text: Any

    @staticmethod
    def load(config: MultiResolutionConfig) -> TokenComponents:
        """Load the parts that a config names. ValueError says which is missing, or does not fit to the others."""
        family = default_family("token")
        net, start = network(config.network, config.init, reporting(), family)
        vae_folder = given_vae(config.vae) if config.vae else _part_of(start, "vae")
        text_folder = given_text_encoder(config.text) if config.text else _part_of(start, "text_encoder").parent
        vae = load_vae(vae_folder, family, process_device())
        text = _text_encoder(family, text_folder)
        _check_fit(net.config, vae, text)
        stated = "causal_temporal_positioning" in config.network or (start is not None and _is_complete(start))
        causal = (
            net.config.causal_temporal_positioning if stated else vae.config.encoder.grown
        )  # as released: from 0.9.5 on
        net.config = replace(
            net.config, temporal_compression=vae.temporal_compression, scale=vae.spatial_compression,
            causal_temporal_positioning=causal,
        )  # fmt: skip
        return TokenComponents(family, net, start.files if start else [], vae_folder, vae, text_folder, text)

    def frozen_files(self, init: bool) -> dict[str, Sequence[Path]]:
        """Return the files of the frozen parts, as `ReadsFrozen.frozen` does."""
        parts = {"text": text_encoder_files(self.text_folder), "vae": part_files(self.vae_folder)}
        return {**parts, **({"init": self.init_files} if init and self.init_files else {})}


def _check_fit(config: Any, vae: Any, text: Any) -> None:
    """Raise ValueError if the network takes other latents or texts than its VAE and text encoder make."""
    for name, wanted, part in [
        ("in_channels", vae.config.latent_channels, "VAE"),
        ("out_channels", vae.config.latent_channels, "VAE"),
        ("caption_channels", text.encoder.config.d_model, "text encoder"),
    ]:
        if getattr(config, name) != wanted:
            raise ValueError(f"the {part} has {wanted} channels: set {name} = {wanted} in the table network")


def _text_encoder(family: str, folder: Path) -> nn.Module:
    load = training_hooks(family).text_encoder
    if load is None:
        raise ConfigError(
            f"the model family {family} offers training no text encoder: see `TrainingHooks.text_encoder`"
        )
    return load(folder, torch.float32, str(process_device()))


def _part_of(start: InitWeights | None, name: str) -> Path:
    """Return the folder of a part of the model that the network comes from."""
    if start is None or start.folder is None:
        raise ValueError(f"init has no {name} beside it: set `vae` and `text` to folders that have them")
    return start.folder / name


def _is_complete(start: InitWeights) -> bool:
    """Whether the config of a model states everything: released ones leave some settings to the VAE."""
    return start.folder is None or (start.folder / "longtake.json").exists()
