"""The parts of a video network in training: network, text encoder, VAE, image encoder, and the model they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.models.checkpoints import loading as weights
from longtake.models.checkpoints.description import part_folder
from longtake.models.encoders.umt5 import UmT5Text
from longtake.models.encoders.word_text import WordText
from longtake.models.model import Model, ModelInfo, NetworkFeatures, VideoFormat
from longtake.train.datasets.image_features import FrameEncoder
from longtake.train.run.device import device_of
from longtake.train.run.distributed import reporting
from longtake.train.video.config import VideoConfig
from longtake.train.weights.families import hooks_of, load_vae
from longtake.train.weights.init_weights import network
from longtake.train.weights.missing_parts import given_text_encoder, given_vae
from longtake.train.weights.model_card import ModelCard
from longtake.train.weights.text_encoders import load_text_encoder, text_encoder_files


@dataclass(frozen=True)
class Components:
    """A network in training with the frozen parts around it.

    init_files: from which the network was initialised. model_folder: the model that it comes from, if it is one.
    vae_folder: None if the config names no VAE.
    """

    network: Any
    init_files: Sequence[Path]
    model_folder: Path | None
    text_folder: Path
    text: WordText | UmT5Text
    vae_folder: Path | None
    image_encoder: FrameEncoder | None
    init: str

    @staticmethod
    def load(config: VideoConfig) -> Components:
        """Load the parts that a config names. ValueError says which part is missing."""
        net, start = network(config.network, config.init, reporting())
        model = start.folder if start else None
        text_folder = given_text_encoder(config.text) if config.text else _text_folder(model, config.init)
        vae_folder = given_vae(config.vae) if config.vae else model and part_folder(model, "vae")
        images = Path(config.image_encoder) if config.image_encoder else model and model / "image_encoder"
        return Components(
            net, start.files if start else [], model, text_folder, load_text_encoder(text_folder), vae_folder,
            FrameEncoder.of(net.config.image_dim, images), config.init,
        )  # fmt: skip

    def need_vae(self, otherwise: str) -> Path:
        """Return the folder of the VAE. ValueError if there is none; otherwise: another setting that would do."""
        if self.vae_folder is None:
            raise ValueError(f"init {self.init!r} has no VAE: set `vae` to the folder of one, or set {otherwise}")
        return self.vae_folder

    def frozen_files(self, init: bool) -> dict[str, Sequence[Path]]:
        """Return the files of the frozen parts, as `ReadsFrozen.frozen` does."""
        parts: dict[str, Sequence[Path]] = {"text": text_encoder_files(self.text_folder)}
        if self.vae_folder is not None:
            parts["vae"] = weights.part_files(self.vae_folder)
        if self.image_encoder:
            parts["image_encoder"] = weights.files(self.image_encoder.folder)
        return parts | ({"init": self.init_files} if init and self.init_files else {})

    def model(self, card: ModelCard, fps: float, size: tuple[int, int]) -> Model:
        """Return the network as it is now, as a loaded model. fps, size: of the videos that it generates."""
        assert self.vae_folder is not None
        device, config, hooks = device_of(self.network), self.network.config, hooks_of(self.network).generation
        vae, limits = load_vae(self.vae_folder, device=device), hooks.limits(self.network.config, card.kind)
        conditioner = None
        if limits.conditioning == "concat" and hooks.image_conditioner:
            conditioner = hooks.image_conditioner(vae, self.image_encoder.net if self.image_encoder else None)
        return Model(
            ModelInfo(f"{card.name} in training", card.family), VideoFormat(fps, size), limits=limits, vae=vae,
            text_encoder=self.text, session=lambda: hooks.session(self.network, conditioner),
            defaults=card.sampling_defaults(),
            features=NetworkFeatures(control_width=(config.control_dim or 0) // vae.temporal_compression),
            device=str(device),
        )  # fmt: skip


def _text_folder(model: Path | None, init: str) -> Path:
    if model is None:
        raise ValueError(f"init {init!r} has no text encoder: set `text` to a folder that has one")
    return part_folder(model, "text_encoder").parent
