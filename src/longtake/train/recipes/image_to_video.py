"""Recipe `image_to_video`: image to video as in Wan, with a mask and the latents of the first frames concatenated by channel.

All frames share one sigma, and all are trained, the given ones too. The new input channels of a network that starts from
another one are zero at first, so that training starts from what it could do. A network with an image encoder, as that of
Wan 2.1, is also conditioned on CLIP features of the first frame. Clips may have a control signal (a voice, a path), on
which the network is then conditioned too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.engine.control import ControlSignal
from longtake.pocket.clips import Source
from longtake.train.datasets.encode_workers import encode_parallel
from longtake.train.datasets.footage import Footage
from longtake.train.datasets.image_conditioning import (
    ImageConditioning,
    PrefixLengths,
    fill_prefixes,
    footage_prefixes,
    load_prefixes,
)
from longtake.train.datasets.latent_shards import VAEFingerprint, filled
from longtake.train.datasets.pocket import PocketLatents
from longtake.train.objectives.velocity import Sample
from longtake.train.run.device import encoding, process_device
from longtake.train.run.distributed import ranks, reporting, wait_for_all
from longtake.train.toml_config import read_table
from longtake.train.video.full_sequence import FullSequenceConfig, clip_beginnings
from longtake.train.video.recipe import VideoRecipe
from longtake.train.video.training import VideoTraining
from longtake.train.weights.families import load_vae
from longtake.train.weights.model_card import ModelCard, model_card

CARD = ModelCard(
    name="pocket-i2v", kind="i2v", strategy="clip-conditioned", strategy_options={"overlap": 1},
    what="image and text to video",
)  # fmt: skip


@dataclass(frozen=True)
class ImageToVideoConfig(FullSequenceConfig):
    """Settings of image to video, beside those of full-sequence flow matching.

    prefix: how many first frames condition the network. control_dropout: share of steps without the control signal, where
    clips have one (source.drive, or footage.control), so that guidance can use its absence as the unconditional branch.
    """

    prefix: PrefixLengths = field(default_factory=PrefixLengths)
    control_dropout: float = 0.1


CONFIG = ImageToVideoConfig


def make(config: Mapping[str, Any], out: Path) -> VideoRecipe:
    """Make the recipe from its table and the run's folder; image conditions are encoded into the folder on first use."""
    settings = read_table(CONFIG, config, "image_to_video")
    video = VideoTraining.open(settings, out, model_card(CARD, settings.card, "image_to_video.card"))
    compression = settings.prefix.temporal_compression
    wanted = 2 * video.data.channels + compression
    if video.module.config.in_channels != wanted:
        raise ValueError(
            f"an image-to-video network of this VAE has {wanted} input channels: set in_channels = {wanted}"
        )
    _check_control(video, compression)
    conditions = _image_conditioning(video, out / "image_cond", settings.prefix)
    encoder = video.parts.image_encoder
    features = encoder.features_of(video.data) if encoder else None

    def draw(step: int, generator: torch.Generator) -> Sample:
        spec = video.batch_spec(step, generator)
        sample, numbers = clip_beginnings(settings, video, spec, generator)
        image = features(numbers) if features else None
        sample = replace(sample, concat=conditions.concat(numbers, spec.frames), image=image)
        if not video.data.control_kind or float(torch.rand((), generator=generator)) < settings.control_dropout:
            return sample
        return replace(sample, control=control_signals(video.data, numbers, spec.frames, compression))

    return VideoRecipe(video, draw, uniform=True)


def control_signals(
    data: PocketLatents | Footage, numbers: Sequence[int], frames: int, temporal_compression: int
) -> Tensor:
    """Return the control signals of the first `frames` latent frames of clips (B, F, temporal_compression * D)."""
    signals = [ControlSignal(data.control_signal(number)) for number in numbers]
    return torch.stack([each.of_latents(range(frames), 0, temporal_compression) for each in signals]).flatten(2)


def _check_control(video: VideoTraining, temporal_compression: int) -> None:
    """Raise ValueError unless the network takes the control signal of the clips."""
    kind, width = video.data.control_kind, video.module.config.control_dim
    wanted = temporal_compression * video.data.control_width if kind else None
    if width != wanted:
        raise ValueError(
            f"these clips have a control signal ({kind}): set control_dim = {wanted} in the network"
            if kind
            else f"these clips have no control signal: remove control_dim = {width}, or set source.drive or footage.control"
        )


def _image_conditioning(video: VideoTraining, folder: Path, prefix: PrefixLengths) -> ImageConditioning:
    """Open the image conditions of all clips, which the ranks encode first."""
    vae = video.parts.need_vae("`init` to a model with one")
    if isinstance(video.data, Footage):
        latents = footage_prefixes(video.data, prefix, ranks(), reporting())
        wait_for_all()
        return ImageConditioning(prefix, latents)
    source, count = video.data.source, max(video.data.clips) + 1
    encode_parallel(encode_conditions, folder, source, count, prefix, vae, done=filled(folder, count))
    return ImageConditioning(prefix, load_prefixes(folder))


def encode_conditions(
    folder: Path, source: Source, count: int, prefix: PrefixLengths, vae: Path, share: tuple[int, int],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do a share of encoding the image conditions of clips (see `latent_shards.fill_shards`). vae: the folder of the VAE."""
    net = load_vae(vae, device=process_device())
    fill_prefixes(folder, source, count, prefix, encoding(net), share, report, VAEFingerprint.of(net, vae))


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    prefix = {"counts": (1, 5), "weights": (0.5, 0.5)}
    return {**parts.video, "network": {**parts.network, "in_channels": 12}, "prefix": prefix}
