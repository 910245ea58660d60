"""What training a Wan network needs: how its parts are made, started, read and written."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import Tensor

from longtake.models.family import DiffusersClasses, GenerationHooks, InitRules, TrainablePart, TrainingHooks
from longtake.models.wan import config, transformer, vae, vae_config
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.models.wan.layout.lora_names import SVI_TARGETS
from longtake.models.wan.layout.settings import limits
from longtake.models.wan.presets import Kind
from longtake.models.wan.session import WanSession


def with_statistics(trained: vae.WanVAE, mean: Tensor, std: Tensor) -> vae_config.WanVAEConfig:
    """Return the config of a VAE with the mean and deviation (C,) of its latents."""
    rounded = [tuple(round(float(number), 5) for number in numbers) for numbers in (mean, std)]
    return replace(
        trained.config, latents_mean=rounded[0], latents_std=rounded[1],
        scale_factor_spatial=trained.spatial_compression, scale_factor_temporal=trained.temporal_compression,
    )  # fmt: skip


DEFAULT_VAE = dict(
    base_dim=16, decoder_base_dim=32, z_dim=16, dim_mult=(1, 2, 4), num_res_blocks=1, temperal_downsample=(True, True),
    in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16,
)  # fmt: skip
HOOKS = TrainingHooks(
    transformer=TrainablePart(
        config.WanConfig, transformer.WanTransformer, transformer.initialise, config.NAMES, config.UNUSED
    ),
    vae=TrainablePart(vae_config.WanVAEConfig, vae.WanVAE, vae.initialise, vae_config.NAMES, default=DEFAULT_VAE),
    classes=DiffusersClasses(
        {
            "df": ("SkyReelsV2DiffusionForcingPipeline", "SkyReelsV2Transformer3DModel"),
            "t2v": ("WanPipeline", "WanTransformer3DModel"),
            "i2v": ("WanImageToVideoPipeline", "WanTransformer3DModel"),
        },
        "AutoencoderKLWan",
        "UniPCMultistepScheduler",
    ),
    generation=GenerationHooks(
        lambda network, conditioner: WanSession(network, conditioner=conditioner),
        lambda network, kind: limits(network, cast(Kind, kind)),
        ImageConditioner,
    ),
    max_latent_frames=lambda network, fps: network.max_latent_frames,
    lora_targets=SVI_TARGETS,
    with_statistics=with_statistics,
    init=InitRules(
        ("causal", "block", "max_latent_frames"),
        "patch_embedding.weight",
        {"control_dim": "condition_embedder.control_embedder."},
    ),
)
