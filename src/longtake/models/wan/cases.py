"""Tiny Wan checkpoints with random weights, in the folder layout of released ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.cases import random_text
from longtake.models.family import ContractCase
from longtake.models.wan import config as wan_config
from longtake.models.wan import transformer, vae_config
from longtake.models.wan import vae as wan_vae


def random_wan(
    folder: Path, causal: bool = False, max_latent_frames: int = 9, block: int = 1, size: int = 16, seed: int = 0,
    net: Mapping[str, Any] = {}, vae: Mapping[str, Any] = {},
) -> Path:  # fmt: skip
    """Write a checkpoint with a transformer of 2 layers, a VAE with compression 4 in time and in space, and ten words.

    net, vae: other settings of either config. Returns the folder.
    """
    torch.manual_seed(seed)
    config = wan_config.tiny(causal=causal, max_latent_frames=max_latent_frames, block=block, **dict(net))
    made = transformer.WanTransformer(config)
    transformer.initialise(made)
    torch.nn.init.normal_(made.proj_out.weight, std=0.2)
    weights.save(made, config, folder / "transformer", kind="SkyReelsV2Transformer3DModel")
    coder = vae_config.tiny(z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4, **dict(vae))
    weights.save(wan_vae.WanVAE(coder), coder, folder / "vae", kind="AutoencoderKLWan")
    random_text(folder, config.text_dim)
    about = dict(
        name="tiny", family="wan", fps=24, size=[size, size], guidance_scale=2.0, sampling_options={"steps": 3}
    )
    about |= dict(max_latent_frames=max_latent_frames, block=block, causal=causal)
    (folder / "longtake.json").write_text(json.dumps(about), encoding="utf-8", newline="\n")
    return folder


def network(folder: Path) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Load the transformer of a checkpoint -> (x, sigma, text embeddings) -> velocity."""
    net = transformer.load(folder / "transformer").requires_grad_(False)
    return lambda x, sigma, text: net(x, sigma, text)


CASES = {
    "bidirectional": ContractCase(random_wan, network, "sliding", {"steps": 3, "overlap": 5}, 61),
    "block-causal": ContractCase(
        partial(random_wan, causal=True, max_latent_frames=6, block=2), network, "blocks", {"steps": 2}, 33
    ),
}
