"""The settings of a Wan checkpoint: what its longtake.json states, or those published with its preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from longtake.core.guidance_settings import Guidance
from longtake.models.checkpoints.loading import WeightsError
from longtake.models.model import ModelInfo, SamplingDefaults, VideoFormat
from longtake.models.wan.config import WanConfig
from longtake.models.wan.layout.components import Layout, network
from longtake.models.wan.layout.files import fitting_preset
from longtake.models.wan.presets import Kind, fitting
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.planning.limits import Limits

CONTEXT: Mapping[Kind, Literal["inpaint", "concat", "none"]] = {"df": "inpaint", "i2v": "concat", "t2v": "none"}


def limits(config: WanConfig, kind: Kind) -> Limits:
    """Return the plans that a checkpoint of a kind can run: only diffusion forcing mixes sigmas and keeps context frames in place."""
    return Limits(
        max_latent_frames=config.max_latent_frames,
        block=config.block,
        per_frame_sigma=kind == "df",
        conditioning=CONTEXT[kind],
        causal=config.causal,
    )


@dataclass(frozen=True)
class Stated:
    """The settings that a checkpoint's longtake.json or its preset states. max_latent_frames: None if it states none."""

    info: ModelInfo
    format: VideoFormat
    defaults: SamplingDefaults
    max_latent_frames: int | None = None


def stated_settings(found: Layout) -> Stated:
    """Return what longtake.json states, else the published settings."""
    return own_settings(found.about) if found.about else released_settings(found)


def own_settings(about: Mapping[str, Any]) -> Stated:
    """Return what a longtake.json states. Raises WeightsError for a key that is missing."""
    try:
        fps, size = about["fps"], (about["size"][0], about["size"][1])
        return Stated(
            ModelInfo(about["name"], "wan", vocabulary=about.get("vocabulary", "")),
            VideoFormat(fps, size, tuple(about.get("rates", [fps]))),
            SamplingDefaults(
                strategy=about.get("strategy", "sliding"),
                strategy_options=about.get("strategy_options", {}),
                sampling_options=about.get("sampling_options", {}),
                guidance=Guidance((about.get("guidance_scale", 1.0),)),
                negative_prompt=about.get("negative_prompt", ""),
                solver=about.get("solver", "euler"),
            ),
        )
    except KeyError as error:
        raise WeightsError(f"longtake.json lacks {error}: copy the model again") from error


def released_settings(found: Layout) -> Stated:
    """Return the settings of the preset that fits, or of the first of its kind if the network has another size."""
    fits = fitting_preset(found)
    used = fits or fitting({}, found.kind, found.brand)[0]
    rates = (24.0, 16.0) if network(found).inject_sample_info else (used.fps,)
    return Stated(
        ModelInfo(fits.name if fits else found.path.stem, "wan"),
        VideoFormat(used.fps, used.size, rates),
        SamplingDefaults(
            strategy=used.plan,
            strategy_options=used.options,
            sampling_options=used.sampling,
            guidance=Guidance((used.guidance,)),
            negative_prompt=used.negative,
            solver=used.solver,
            published=used.published,
        ),
        used.max_latent_frames,
    )


def video_format(own: VideoFormat, vae: WanVAEConfig, config: WanConfig) -> VideoFormat:
    """Return the stated format with the size of a token and the number of tokens of one latent frame."""
    multiple = [vae.spatial_compression * patch for patch in config.patch_size[1:]]
    rows, columns = (side // vae.spatial_compression // p for side, p in zip(own.size, config.patch_size[1:]))
    return replace(own, size_multiple=(multiple[0], multiple[1]), tokens_per_frame=rows * columns)
