"""Recipe `error_recycling`: error-recycling fine-tuning (Stable Video Infinity), a LoRA that corrects the network's errors.

The errors that the network makes are kept (`objectives.error_bank`) and added to later inputs: to the clean video, to the
noise, and to the context frames, as they are when the network continues its own video. The network learns the clean video
all the same: the target is (noise + E_noise) - video, whatever the input was. It trains on top of any recipe that draws
samples and predicts velocities, of any family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from longtake.core.errors import ConfigError
from longtake.core.sigmas import sigma_schedule
from longtake.models.lora.layers import inject, save
from longtake.train.datasets.footage import Footage
from longtake.train.datasets.image_conditioning import PrefixLengths
from longtake.train.inner_recipe import dataset_of, frozen_with_init, is_uniform, lora_result, make_inner, scores_of
from longtake.train.interfaces import Loss, Result
from longtake.train.objectives.error_bank import ErrorBank, VelocityError, from_all_ranks
from longtake.train.objectives.error_injection import (
    CONTEXT_SIGMA_MAX,
    InjectedErrors,
    draw_errors,
    published_sigmas,
    sigma_weight,
    with_errors,
)
from longtake.train.objectives.error_recycling_config import PREFIX_PRESETS, ErrorRecyclingConfig
from longtake.train.objectives.velocity import (
    DrawsSamples,
    HasWholeClips,
    Sample,
    guided_velocity,
    redenoised,
)
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.run.checkpoint import CheckpointError
from longtake.train.run.device import process_device
from longtake.train.run.distributed import gather_tensor, ranks
from longtake.train.toml_config import read_table
from longtake.train.weights.families import load_vae, lora_targets, network_check

SHORT = 3  # latent frames, at least, of a video that is denoised only for its first frames
TINY_LR = 2e-2
CONFIG = ErrorRecyclingConfig


class ErrorRecycling:
    """A `Recipe`: another one, of whose network a LoRA alone is trained, on inputs with the network's own errors."""

    def __init__(self, inner: DrawsSamples, config: ErrorRecyclingConfig, out: Path):
        self.inner, self.config, self.out = inner, config, out
        self.restores_frozen = bool(config.settings.get("init"))
        bank = config.bank
        self.bank = ErrorBank(
            bank.buckets, config.shift, bank.capacity, bank.replacement, bank.ram_gib, out / "errors", ranks()[0]
        )
        through_vae = config.rounds.through_vae
        self.vae = load_vae(_vae_folder(inner), device=process_device()) if through_vae else None
        self.context_sigma_max = config.settings.get("context_sigma_max", CONTEXT_SIGMA_MAX)
        self.batches = 0  # of this rank so far

    @property
    def module(self) -> nn.Module:
        """The network with the LoRA."""
        return self.inner.module

    @property
    def uniform(self) -> bool:
        """Whether all batches make the same calls of the network; each rank draws its number of rounds."""
        return is_uniform(self.inner) and self.config.rounds.count < 2

    def loss(self, step: int, generator: torch.Generator) -> Loss:
        """Compute the weighted mean square of v_hat - ((noise + E_noise) - video)."""
        config = self.config
        sample, own = self._with_sigmas(self.inner.draw(step, generator), generator), None
        if config.rounds.count:
            sample, own = self._with_own_errors(sample, generator)
        own = own if own is not None else [None] * len(sample.sigma)
        errors = [draw_errors(config.errors, self.bank, s, generator, e) for s, e in zip(sample.sigma, own)]
        noisy = with_errors(sample, errors, self.context_sigma_max)
        residual = self.inner.video.velocity(noisy) - (noisy.noise - sample.video)
        if config.needs_bank:
            self._store(residual.detach().float(), sample.sigma, errors, generator)
        error = residual.float().pow(2).mean(1)  # (B, F, h, w)
        if config.sigma_distribution == "published":
            weight = sigma_weight(sample.sigma, config.shift)
            size: Tensor | float = float(weight.numel())
        else:
            weight = (sample.sigma > self.context_sigma_max).to(error)
            size = weight.sum().clamp_min(1e-6)
        if config.sprite_loss_weight:
            share = 1 + config.sprite_loss_weight * sample.sprite
            error = error * share / share.mean()
        return Loss((error.mean((2, 3)) * weight).sum(), size)

    # ------------------------------------------------------------ rounds
    def _with_own_errors(self, sample: Sample, generator: torch.Generator) -> tuple[Sample, Any]:
        """Repeat the first videos of a sample, and compute the errors of their context frames (B, C, m, h, w)."""
        count = -(-len(sample.sigma) // self.config.rounds.repeats)
        rows = [number % count for number in range(len(sample.sigma))]
        own = self._own_errors(sample.select(range(count)), generator)[rows].unbind()
        return replace(sample.select(rows), noise=sample.noise, sigma=sample.sigma), own

    @torch.no_grad()
    def _own_errors(self, sample: Sample, generator: torch.Generator) -> Tensor:
        """Return the errors of context frames (B, C, m, h, w) after some rounds, each conditioned on the one before."""
        if sample.concat is None and sample.clean_context is None:
            raise ConfigError(
                "rounds need a network whose context is concatenated by channel, or stands before the noisy frames: remove "
                "[error_recycling.rounds]"
            )
        if sample.clean_context is None:
            denoise, count = self._first_frames, self.config.errors.context_latents
        else:
            denoise, count = self._blocks, sample.frames
        true = sample.video[:, :, :count]
        last = torch.randint(1, self.config.rounds.count + 1, (len(true),), generator=generator)
        error = torch.zeros_like(true)
        for number in range(1, int(last.max()) + 1):
            frames, continues = denoise(sample, error, generator), number <= last
            error[continues] = self.through_vae(frames[continues]) - true[continues]
        return error

    def _first_frames(self, sample: Sample, error: Tensor, generator: torch.Generator) -> Tensor:
        """Denoise the first frames from noise, conditioned on concatenated context with the given error."""
        channels, count = error.shape[1:3]
        short = sample.first_frames(min(max(SHORT, count), sample.frames))
        assert short.concat is not None
        concat = short.concat.clone()
        concat[:, -channels:, :count] += error
        noise = torch.randn(short.noise.shape, generator=generator)
        steps = self.config.rounds.num_inference_steps
        sigmas = sigma_schedule(steps, self.config.shift).float().expand(len(error), -1)
        return redenoised(self._guided, replace(short, noise=noise, concat=concat), sigmas)[:, :, :count]

    def _blocks(self, sample: Sample, error: Tensor, generator: torch.Generator) -> Tensor:
        """Noise and denoise every block, after the blocks before it, all with the given error."""
        wrong, noise = sample.video + error, torch.randn(sample.noise.shape, generator=generator)
        rounds = self.config.rounds
        sigmas = rounds.max_sigma * sigma_schedule(rounds.num_inference_steps, 1.0).float().expand(len(error), -1)
        return redenoised(self._guided, replace(sample, video=wrong, clean_context=wrong, noise=noise), sigmas)

    def _guided(self, sample: Sample) -> Tensor:
        """Predict the velocity with guidance, as in sampling."""
        return guided_velocity(self.inner.video.velocity, sample, self.config.rounds.guidance)

    def through_vae(self, latents: Tensor) -> Tensor:
        """Pass the first latents of videos (B, C, m, h, w) through 8-bit frames, if the config says so."""
        if self.vae is None:
            return latents
        decoder = self.vae.decoder()
        frames = torch.cat([decoder.push(latents.to(process_device())), decoder.flush()], 2)
        return self.vae.encode(((frames.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1).to(latents)

    # ------------------------------------------------------------ sigmas and the bank
    def _with_sigmas(self, sample: Sample, generator: torch.Generator) -> Sample:
        if self.config.sigma_distribution == "recipe":
            return sample
        if bool((sample.sigma != sample.sigma[:, :1]).any()):
            raise ConfigError('this recipe draws a sigma per frame: set sigma_distribution = "recipe"')
        sigma = published_sigmas(generator, len(sample.sigma), self.config.shift)
        return replace(sample, sigma=sigma[:, None].expand_as(sample.sigma))

    def _store(
        self, residual: Tensor, sigma: Tensor, errors: Sequence[InjectedErrors], generator: torch.Generator
    ) -> None:
        """Store the velocity errors of a batch: always after injected errors, sometimes after a clean video."""
        bank = self.config.bank
        entries = [VelocityError(r, s) for r, s in zip(residual, sigma)]
        wanted = [
            not one.clean or float(torch.rand((), generator=generator)) < bank.clean_update_prob for one in errors
        ]
        if self.batches < bank.warmup:
            world = ranks()[1]
            entries = from_all_ranks(entries, gather_tensor)
            wanted = [want for want in wanted for _ in range(world)]
        for entry, want in zip(entries, wanted):
            if want:
                self.bank.push(entry, generator)
        self.batches += 1

    def save_state(self, folder: Path) -> None:
        """Write this rank's error bank into a checkpoint."""
        self.bank.save(folder)
        (folder / f"error-recycling-{ranks()[0]}.txt").write_text(f"{self.batches}\n", encoding="utf-8", newline="\n")

    def load_state(self, folder: Path) -> None:
        """Read this rank's error bank from a checkpoint. CheckpointError if it has none."""
        self.bank.load(folder)
        try:
            self.batches = int((folder / f"error-recycling-{ranks()[0]}.txt").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} does not record the number of batches: {error}") from error

    # ------------------------------------------------------------ from the inner recipe
    def dataset(self) -> Mapping[str, Any]:
        """Return facts about the data."""
        return dataset_of(self.inner)

    def frozen(self, init: bool = True) -> Mapping[str, Sequence[Path]]:
        """Return the files of the frozen weights, the network under the LoRA too."""
        return frozen_with_init(self.inner)

    def scores(self) -> Sequence[str] | None:
        """Return the names of the scores of `evaluate`."""
        names = scores_of(self.inner)
        return None if names is None else (*names, "stored_errors")

    def evaluate(self, step: int, out: Path) -> dict[str, float]:
        """Evaluate the network with the LoRA; also return the number of errors in the bank."""
        return {**self.inner.evaluate(step, out), "stored_errors": float(len(self.bank))}

    def finish(self, out: Path) -> None:
        """Write lora.safetensors and the folder lora/."""
        save(self.module, out / "lora.safetensors")
        save(self.module, out / "lora")

    def result(self, out: Path) -> Result:
        """Return the LoRA."""
        return lora_result(self.inner, out, str(self.config.settings.get("init", "")))


def _check_shapes(inner: DrawsSamples) -> None:
    """Raise ConfigError if a recipe draws videos of several shapes."""
    data, settings = (getattr(inner.video, name, None) for name in ("data", "config"))
    if isinstance(data, Footage) and len(data.buckets) > 1:
        raise ConfigError("an error bank holds errors of one shape: set one of seconds and one of sizes in footage")
    lengths = {length for _, options in getattr(settings, "length_schedule", ()) for length in options}
    if not isinstance(data, Footage) and len(lengths) > 1:
        raise ConfigError("an error bank holds errors of one shape: set one length in settings.length_schedule")


def _vae_folder(inner: DrawsSamples) -> Path:
    folder = getattr(inner.video, "vae_folder", None)
    if folder is None:
        raise ConfigError("rounds.through_vae needs a VAE: set settings.vae, or remove through_vae")
    return Path(folder)


def _with_preset(entry: RecipeEntry, preset: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the image conditions of a preset, for an inner recipe that has them."""
    config = entry.part("CONFIG")
    prefixed = (
        any(each.name == "prefix" for each in fields(config)) and get_type_hints(config)["prefix"] is PrefixLengths
    )
    if not prefixed or preset not in PREFIX_PRESETS:
        return dict(table)
    return {**table, "prefix": {**PREFIX_PRESETS[preset], **table.get("prefix", {})}}


def make(config: Mapping[str, Any], out: Path, recipes: Mapping[str, RecipeEntry]) -> ErrorRecycling:
    """Make the recipe and the one inside it from its table and the run's folder. ConfigError if the inner one is unsuited."""
    settings = read_table(CONFIG, config, "error_recycling")
    entry = recipes.get(settings.recipe)
    table = _with_preset(entry, settings.preset, settings.settings) if entry else settings.settings
    lora, where = settings.lora, "error_recycling.lora"
    with network_check(partial(lora_targets, chosen=lora.targets, table=where)):
        inner = make_inner(
            recipes, settings.recipe, table, out, "error_recycling", lambda each: each.trains != "adapter"
        )
    if isinstance(inner, HasWholeClips):
        inner = inner.whole_clips()
    if not hasattr(inner, "draw") or not hasattr(inner, "video"):
        options = ", ".join(name for name, each in recipes.items() if each.samples)
        raise ConfigError(f"[error_recycling] recipe {settings.recipe!r} draws no videos: use one of {options}")
    if settings.needs_bank:
        _check_shapes(inner)
    targets = lora_targets(inner.module, lora.targets, where)
    inject(inner.module, lora.rank, lora.alpha or lora.rank, targets, seed=lora.seed)
    return ErrorRecycling(inner, settings, out)


def tiny(parts: Any) -> dict[str, Any]:
    """Return a small table for the contract tests."""
    return {
        "recipe": "flow_matching", "preset": "none",
        "lora": {"rank": 8, "alpha": 8.0, "targets": ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "proj_out")},
        "settings": {**parts.video, "network": parts.network},
    }  # fmt: skip
