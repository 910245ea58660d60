"""A video network in training: its clips, its loss, its evaluation and the finished model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.eval import control
from longtake.media.images import save_picture
from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.umt5 import UmT5Text
from longtake.models.encoders.word_text import WordText
from longtake.pocket import FPS, SIDE
from longtake.pocket.clips import Source
from longtake.pocket.facts import JUDGED
from longtake.train.datasets.caption_report import report_captions
from longtake.train.datasets.clip_dataset import BatchSpec
from longtake.train.datasets.encode_workers import encode_parallel
from longtake.train.datasets.footage import ClipFormat, Footage
from longtake.train.datasets.latent_shards import VAEFingerprint, check_vae, filled
from longtake.train.datasets.pocket import PocketLatents, fill_cache
from longtake.train.datasets.prepared_folder import FootageConfig, generated_format, open_footage
from longtake.train.interfaces import Captions, Loss, Result
from longtake.train.objectives.velocity import Sample, velocity
from longtake.train.run.device import device_of, encoding, process_device
from longtake.train.run.distributed import ranks, reporting, wait_for_all
from longtake.train.video.components import Components
from longtake.train.video.config import VideoConfig
from longtake.train.video.evaluation import footage_sheet, prompt_scores
from longtake.train.video.validation import HELD_OUT, NAMES, Draw, validation_losses
from longtake.train.weights.export import export
from longtake.train.weights.families import hooks_of, load_vae
from longtake.train.weights.init_weights import write_shape
from longtake.train.weights.model_card import ModelCard


@dataclass(frozen=True)
class VideoTraining:
    """A network in training with its clips. parts: the network and the frozen parts. card: of the finished model."""

    config: VideoConfig
    parts: Components
    data: PocketLatents | Footage
    card: ModelCard

    @staticmethod
    def open(config: VideoConfig, out: Path, card: ModelCard) -> VideoTraining:
        """Load the parts and open the clips, which are encoded first if needed. out: the run's folder."""
        parts = Components.load(config)
        data = open_prepared_clips(config, parts) if config.folder else open_pocket_clips(config, parts, out)
        if not ranks()[0]:
            write_shape(out, parts.network.config)
        return VideoTraining(config, parts, data, card)

    @property
    def module(self) -> Any:
        """The network."""
        return self.parts.network

    @property
    def text(self) -> WordText | UmT5Text:
        """The text encoder."""
        return self.parts.text

    @property
    def vae_folder(self) -> Path | None:
        """The folder of the VAE, if the config names one."""
        return self.parts.vae_folder

    def frozen(self, init: bool) -> dict[str, Sequence[Path]]:
        """Return the files of the frozen parts, see `ReadsFrozen`."""
        return self.parts.frozen_files(init)

    # ------------------------------------------------------------ batches
    def batch_spec(self, step: int, generator: torch.Generator) -> BatchSpec:
        """Draw the clips from which a step draws its windows; for the step HELD_OUT those that are held out."""
        if step == HELD_OUT and isinstance(self.data, Footage):
            return self.data.held_out_spec(generator)
        return self.data.batch_spec(lambda drawing: self.config.draw_length(step, drawing), generator)

    def videos_per_step(self, cost: int) -> int:
        """Return the number of videos of a step, if each costs as much as so many latent frames."""
        return max(1, self.config.frames // cost)

    def captions(self, number: int, start: int, frames: int, rng: random.Random) -> Captions:
        """Draw the captions of a window of a clip, or no caption in a share `caption_dropout`."""
        if rng.random() < self.config.caption_dropout:
            return [(0, "")]
        return self.data.captions(number, start, frames, rng)

    def velocity(self, sample: Sample, net: Any = None) -> Tensor:
        """Predict the velocity (B, C, F, h, w) by the network in training or by another one, on the sample's device."""
        net = net or self.module
        device = device_of(net)
        found = velocity(net, sample.to(device), lambda words: self.text.encode(words).to(device))
        return found.to(sample.video.device)

    def loss(self, sample: Sample, target: Tensor | None = None) -> Loss:
        """Compute the squared velocity error over frames that are not context, with extra weight on the sprite.

        target: (B, C, F, h, w), the velocity to learn, if not noise - video.
        """
        sample = sample.to(device_of(self.module))
        target = sample.target if target is None else target.to(device_of(self.module))
        error = (self.velocity(sample) - target).pow(2).mean(1)
        learned = (sample.sigma > self.config.context_sigma_max)[:, :, None, None]
        weight = (1 + self.config.sprite_loss_weight * sample.sprite) * learned
        return Loss((error * weight).sum(), weight.sum().clamp_min(1e-6))

    # ------------------------------------------------------------ evaluation and the finished model
    def scores(self) -> Sequence[str]:
        """Return the names of the scores of `evaluate` and `validation`."""
        if self._held_out:
            return NAMES
        if self.vae_folder is None or not self.config.eval_prompts or isinstance(self.data, Footage):
            return ()
        return control.SCORES if self.data.control_kind else JUDGED

    def validation(self, draw: Draw) -> dict[str, float]:
        """Measure the loss on the held-out clips, if there are some. draw: the samples of the recipe."""
        count = self._held_out
        return validation_losses(count, draw, self.loss) if count else {}

    @property
    def _held_out(self) -> int:
        return len(self.data.held_out) if isinstance(self.data, Footage) else 0

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Generate a few videos, write a contact sheet of them to out and return their scores (none for footage)."""
        count, sheet = self.config.eval_prompts, out / f"sheet-{step:06d}.png"
        if self.vae_folder is None or not count:
            return {}
        model = self.parts.model(self.card, *self._format())
        if isinstance(self.data, Footage):
            return footage_sheet(model, self.data, count, sheet)
        if self.data.control_kind:
            return control.evaluate(model, self.data.control_kind, count, sheet)
        return prompt_scores(model, count, sheet)

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `longtake generate --model` accepts."""
        if self.vae_folder is None:
            return
        facts, more = dict(self.data.facts()), {}
        if isinstance(self.data, Footage):
            facts, more = {"clips": 0}, {"fps": self.data.fps, "size": list(self.data.usual_size)}
        card = replace(self.card, more={**more, **self.card.more})
        clips = {"count": facts.pop("clips"), **facts}
        encoder = self.parts.image_encoder
        export(
            out, self.vae_folder, self.parts.text_folder, out / "model", card, clips,
            image_encoder=encoder.folder if encoder else None,
        )  # fmt: skip

    def result(self, out: Path) -> Result | None:
        """Return the model that `finish` writes, if there is a VAE for it."""
        if self.vae_folder is None:
            return None
        return Result("model", out / "model", ["longtake", "generate", *self.inputs(out), "--model", str(out)])

    def inputs(self, out: Path) -> Sequence[str]:
        """Return a caption of the clips as a prompt, and the file of the clip's first frame if the network needs one."""
        number = self.data.example()
        prompt = self.data.caption(number, 0, random.Random(0)) or "a video"
        limits = hooks_of(self.module).generation.limits(self.module.config, self.card.kind)
        if limits.conditioning != "concat":
            return [prompt]
        save_picture(self.data.first_frame(number), out / "first-frame.png")
        return [prompt, "--image", str(out / "first-frame.png")]

    def _format(self) -> tuple[float, tuple[int, int]]:
        """Return the frame rate and size of the videos that the network learns."""
        if isinstance(self.data, Footage):
            return self.data.fps, self.data.usual_size
        return float(FPS), (SIDE, SIDE)


def open_pocket_clips(config: VideoConfig, parts: Components, out: Path) -> PocketLatents:
    """Open clips of the pocket world, which are encoded first unless the config names a folder of latents."""
    folder = Path(config.data) if config.data else out / "latents"
    if not config.data:
        vae_folder, count = parts.need_vae("`data`, a folder of latents"), config.clips
        source = config.source or Source()
        encode_parallel(encode_clips, folder, source, count, vae_folder, done=filled(folder, count))
    elif parts.vae_folder is not None:
        vae = load_vae(parts.vae_folder)
        check_vae(folder / "cache.json", VAEFingerprint.of(vae, parts.vae_folder))
    return PocketLatents(folder, config.short_caption_share)


def open_prepared_clips(config: VideoConfig, parts: Components) -> Footage:
    """Open clips of a prepared folder; the ranks together encode as many as there is room for."""
    settings, net = config.footage or FootageConfig(), parts.network.config
    vae_folder = parts.need_vae("another `init`")
    vae = load_vae(vae_folder, device=process_device())
    clip_format = ClipFormat(
        *generated_format(parts.model_folder, settings), max_latent_frames=net.max_latent_frames,
        multiple=vae.spatial_compression * net.patch_size[1], temporal_compression=vae.temporal_compression,
        scale=vae.spatial_compression, channels=vae.config.z_dim,
        vae=weights.digest(weights.part_files(vae_folder)),
    )  # fmt: skip
    footage = open_footage(Path(config.folder), settings, clip_format, encoding(vae), reporting())
    report_captions(footage, parts.text, reporting())
    footage.fill(ranks(), reporting())
    wait_for_all()
    return footage


def encode_clips(
    folder: Path, source: Source, count: int, vae: Path, share: tuple[int, int], report: Callable[[str], None]
) -> None:
    """Do a share of filling a folder with latents (see `latent_shards.fill_shards`). vae: the folder of the VAE."""
    net = load_vae(vae, device=process_device())
    fill_cache(folder, source, count, encoding(net), share, report, VAEFingerprint.of(net, vae))
