"""What training an LTX-Video network needs: how its parts are made, started, read and written."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor

from longtake.models.family import (
    DiffusersClasses,
    EstimateHooks,
    GenerationHooks,
    InitRules,
    ReleasedShapes,
    TrainablePart,
    TrainingHooks,
)
from longtake.models.ltx import config, transformer, vae, vae_config
from longtake.models.ltx.block import Block, BlockInputs, Modulation, TextKV
from longtake.models.ltx.presets import LTX, TEXT_PARAMETERS, LTXPreset
from longtake.models.ltx.session import LTXSession
from longtake.models.ltx.text_encoder import text_encoder
from longtake.planning.limits import Limits


def with_statistics(trained: vae.LTXVAE, mean: Tensor, std: Tensor) -> vae_config.LTXVAEConfig:
    """Write the mean and deviation (C,) of the latents among the weights of a VAE, and return its config."""
    trained.latents_mean.copy_(mean)
    trained.latents_std.copy_(std)
    return trained.config


def velocity_of_shapes(net: transformer.LTXTransformer, clips: int, tokens: int, words: int) -> Tensor:
    """Return the velocity (B, C, K) of a batch on the meta device; every clip has its own sigma, and given frames sigma 0.

    `LTXTransformer.tokens` looks for distinct sigmas and for padding, which tensors without values do not have.
    """
    shape, dtype = net.config, net.proj_in.weight.dtype
    x = torch.empty(clips, tokens, shape.in_channels)
    rope = torch.empty(clips, tokens, shape.dim // 2, dtype=torch.complex64)
    text = net.caption_projection(torch.empty(clips, words, shape.caption_channels, dtype=dtype))
    text_kv = TextKV(tuple(cast(Block, block).read(text) for block in net.blocks))
    head, blocks = net.time_embed(transformer.timestep(torch.empty(clips + 1)))
    sigmas = Modulation(head, blocks, torch.empty(clips, 1, tokens, dtype=torch.long))
    return net.run(x[:, None], BlockInputs([text_kv], [(0, 0, 1)], sigmas, rope)).flatten(2)


def released_shapes(preset: LTXPreset) -> ReleasedShapes:
    """Return the shapes of a released checkpoint."""
    return ReleasedShapes(preset.config(), preset.vae_config(), TEXT_PARAMETERS)


def limits(network: config.LTXConfig, kind: str) -> Limits:
    """Return the plans that a network can run at the published rate: every frame has its own sigma."""
    most = network.max_latent_frames(LTXPreset.fps)
    return Limits(most, end="at", causal_positions=network.causal_temporal_positioning)


HOOKS = TrainingHooks(
    transformer=TrainablePart(config.LTXConfig, transformer.LTXTransformer, transformer.initialise),
    vae=TrainablePart(vae_config.LTXVAEConfig, vae.LTXVAE, vae.initialise),
    classes=DiffusersClasses(
        {"df": ("LTXPipeline", "LTXVideoTransformer3DModel")},
        "AutoencoderKLLTXVideo",
        "FlowMatchEulerDiscreteScheduler",
    ),
    generation=GenerationHooks(lambda network, conditioner: LTXSession(network), limits),
    max_latent_frames=lambda network, fps: network.max_latent_frames(fps),
    lora_targets=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    with_statistics=with_statistics,
    init=InitRules(("causal_temporal_positioning", "temporal_compression", "scale")),
    text_encoder=text_encoder,
    sigma_per="token",
    estimate=EstimateHooks(
        {name: partial(released_shapes, preset) for name, preset in LTX.items()}, velocity_of_shapes
    ),
)
