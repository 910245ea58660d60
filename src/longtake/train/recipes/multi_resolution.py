"""Recipe `multi_resolution`: an LTX transformer learns clips of several durations and sizes at once, some with a clean prefix.

A batch holds clips of buckets (duration, size) of about as many tokens; 0 to 20 % of the tokens are dropped so that all
clips have the same number, and those that stay keep their positions. Each video has one sigma; a given prefix has sigma 0
and no loss, as in the relay of clips that generates long videos. Sigmas follow the published shift by tokens, corrected to
reach low noise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models.model import LatentDecoding, Model, ModelInfo, NetworkFeatures, VideoFormat
from longtake.pocket import FPS, SIDE
from longtake.pocket.facts import JUDGED
from longtake.train.datasets.bucket_batches import BatchSampler, TokenBatch
from longtake.train.datasets.bucket_clips import FootageBuckets, PocketBuckets
from longtake.train.datasets.buckets import Bucket
from longtake.train.interfaces import Loss, Result
from longtake.train.multi_resolution.clips import open_pocket_clips, open_prepared_clips, pocket_buckets
from longtake.train.multi_resolution.components import TokenComponents
from longtake.train.multi_resolution.config import MultiResolutionConfig
from longtake.train.multi_resolution.run_estimate import estimate_run
from longtake.train.multi_resolution.whole_clips import WholeClips
from longtake.train.run.device import device_of
from longtake.train.run.distributed import ranks
from longtake.train.toml_config import read_table
from longtake.train.video.evaluation import footage_sheet, prompt_scores
from longtake.train.weights.export import export
from longtake.train.weights.families import training_hooks
from longtake.train.weights.init_weights import write_shape
from longtake.train.weights.model_card import ModelCard, model_card

CARD: dict[str, Any] = dict(strategy="relay", strategy_options={"window": 193, "overlap": 1}, shift=2.0)
DECODE = {"timestep": 0.05, "noise": 0.05}  # the recipe `vae` trains decoders with timesteps to remove this much noise
CONFIG = MultiResolutionConfig


class MultiResolution:
    """A `Recipe`: the network, its VAE and text encoder, and its clips."""

    uniform = True

    def __init__(self, config: Mapping[str, Any], out: Path):
        self.config = settings = read_table(CONFIG, config, "multi_resolution")
        self.parts = parts = TokenComponents.load(settings)
        self.footage = footage = open_prepared_clips(settings, parts) if settings.folder else None
        self.fps, self.size = (footage.fps, footage.usual_size) if footage else (float(FPS), (SIDE, SIDE))
        self.buckets = [bucket for bucket, _ in footage.buckets] if footage else pocket_buckets(settings, parts)
        self.card = model_card(self._default_card(), settings.card, "multi_resolution.card")
        self.clips: FootageBuckets | PocketBuckets = (
            FootageBuckets(footage) if footage else open_pocket_clips(settings, parts, self.buckets, out)
        )
        self._rope: dict[Bucket, Tensor] = {}
        self.sampler = BatchSampler(
            self.clips, self.buckets, settings.batch, settings.prefix, settings.draw_sigmas, self.rope
        )
        if not ranks()[0]:
            write_shape(out, self.module.config)

    @property
    def module(self) -> Any:
        """The network in training."""
        return self.parts.network

    @property
    def vae_folder(self) -> Path:
        """The folder of the VAE."""
        return self.parts.vae_folder

    def _default_card(self) -> ModelCard:
        """Return the card of the model, before the entries of the config."""
        more: dict[str, Any] = {"max_latent_frames": max(bucket.shape[0] for bucket in self.buckets)}
        more |= {"fps": self.fps, "size": list(self.size)} if self.footage else {}
        return ModelCard(
            f"pocket-{self.parts.family}",
            family=self.parts.family,
            **CARD,
            more=more | ({"decode": DECODE} if self.parts.vae.denoises else {}),
        )

    def rope(self, bucket: Bucket) -> Tensor:
        """Return the rotary embedding (N, D/2) of the tokens of a bucket."""
        if bucket not in self._rope:
            frames, rows, columns = bucket.shape
            self._rope[bucket] = self.module.rope_table(range(frames), rows, columns, self.fps)
        return self._rope[bucket]

    # ------------------------------------------------------------ loss
    def draw(self, step: int, generator: torch.Generator) -> TokenBatch:
        """Draw the batch of a step."""
        return self.sampler(generator)

    def velocity(self, batch: TokenBatch) -> Tensor:
        """Predict the velocity (B, K, C) of a batch, on the network's device."""
        batch = batch.to(device_of(self.module))
        share = batch.sigma[..., None]
        text = self.parts.text.encode(batch.captions).to(share.device)
        noisy = (1 - share) * batch.video + share * batch.noise
        return self.module.tokens(noisy, batch.sigma, text, batch.rope).transpose(1, 2)

    def loss(self, step: int, generator: torch.Generator) -> Loss:
        """Compute the squared velocity error over tokens that are not given, with extra weight on the sprite."""
        batch = self.draw(step, generator).to(device_of(self.module))
        error = (self.velocity(batch) - (batch.noise - batch.video)).pow(2).mean(-1)
        weight = (1 + self.config.sprite_loss_weight * batch.sprite) * ~batch.is_context
        return Loss((error * weight).sum(), weight.sum().clamp_min(1e-6))

    def dataset(self) -> dict[str, Any]:
        """Return facts about the clips."""
        return self.clips.facts()

    def frozen(self, init: bool = False) -> Mapping[str, Sequence[Path]]:
        """Return the files of text encoder and VAE; with init, also those of the initial network."""
        return self.parts.frozen_files(init)

    def describe(self, step: int, generator: torch.Generator) -> str:
        """Describe a batch by its number of tokens, its buckets and captions."""
        batch = self.draw(step, generator)
        clips = (f"{bucket.name} {words!r}" for bucket, words in zip(batch.buckets, batch.captions))
        return f"{batch.video.shape[1]} tokens each; {'; '.join(clips)}"

    # ------------------------------------------------------------ evaluation and the finished model
    def scores(self) -> Sequence[str]:
        """Return the names of the scores of `evaluate`."""
        return () if self.footage or not self.config.eval_prompts else JUDGED

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Generate a few videos, write a contact sheet of them to out and return their scores (none for footage)."""
        sheet, count = out / f"sheet-{step:06d}.png", self.config.eval_prompts
        if not count:
            return {}
        if self.footage:
            return footage_sheet(self.model(), self.footage, count, sheet)
        return prompt_scores(self.model(), count, sheet)

    def finish(self, out: Path) -> None:
        """Write the folder `model`, which `longtake generate --model` accepts."""
        facts = {"clips": 0} if self.footage else self.clips.facts()
        clips = {"count": facts.pop("clips"), **facts}
        export(out, self.vae_folder, self.parts.text_folder, out / "model", self.card, clips)

    def result(self, out: Path) -> Result:
        """Return the model."""
        return Result("model", out / "model", ["longtake", "generate", *self.inputs(out), "--model", str(out)])

    def inputs(self, out: Path) -> Sequence[str]:
        """Return a prompt: the caption of a clip."""
        bucket = self.buckets[0]
        return [self.clips.caption(bucket, self.clips.draw(bucket, random.Random(0)), random.Random(0)) or "a video"]

    def model(self) -> Model:
        """Return the network as it is now, as a loaded model."""
        card, parts, vae = self.card, self.parts, self.parts.vae
        hooks = training_hooks(parts.family).generation
        decode = card.more.get("decode", {})
        vae.timestep = decode.get("timestep", vae.timestep)
        tokens = math.prod(side // vae.spatial_compression for side in self.size)
        return Model(
            ModelInfo(f"{card.name} in training", parts.family), VideoFormat(self.fps, self.size, tokens_per_frame=tokens),
            limits=replace(hooks.limits(self.module.config, card.kind), max_latent_frames=card.more["max_latent_frames"]), vae=vae, text_encoder=parts.text,
            session=lambda: hooks.session(self.module, None), defaults=card.sampling_defaults(),
            decoding=LatentDecoding(decode.get("noise", 0.0)),
            features=NetworkFeatures(guidance_blocks=self.module.config.num_layers), device=str(device_of(self.module)),
        )  # fmt: skip

    def whole_clips(self) -> WholeClips:
        """Return the recipe of whole clips, see `WholeClips`."""
        return WholeClips(self)


def make(config: Mapping[str, Any], out: Path) -> MultiResolution:
    """Make the recipe from its table and the run's folder."""
    return MultiResolution(config, out)


def estimate(config: Mapping[str, Any]) -> list[str]:
    """Estimate memory and cost of a run from its config, in lines, see `estimate_run`."""
    return estimate_run(config)[1]


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {
        "seconds": (1.0, 1.5), "sizes": ("32x32", "40x24"), "text": str(parts.text), "vae": str(parts.ltx_vae),
        "network": parts.ltx_network, "data": str(parts.ltx_clips), "batch": {"tokens": 600}, "eval_prompts": 0,
    }  # fmt: skip
