"""Tiny LTX-Video checkpoints with random weights, in the folder layout of released ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.cases import random_text
from longtake.models.family import ContractCase
from longtake.models.ltx import config as ltx_config
from longtake.models.ltx import transformer, vae_config
from longtake.models.ltx import vae as ltx_vae


def random_ltx(
    folder: Path, max_latent_frames: int = 9, size: int = 16, seed: int = 0, grown: bool = True, **about: Any
) -> Path:
    """Write a checkpoint with a transformer of 2 layers, a VAE with compression 8 in time and in space, and ten words.

    grown: the VAE of 0.9.5 and later. about: further keys of longtake.json. Returns the folder.
    """
    torch.manual_seed(seed)
    config = ltx_config.tiny(causal_temporal_positioning=grown)
    net = transformer.LTXTransformer(config)
    transformer.initialise(net)
    torch.nn.init.normal_(net.proj_out.weight, std=0.2)
    weights.save(net, config, folder / "transformer", kind="LTXVideoTransformer3DModel")
    coder = vae_config.tiny() if grown else vae_config.tiny_old()
    weights.save(ltx_vae.LTXVAE(coder), coder, folder / "vae", kind="AutoencoderKLLTXVideo")
    random_text(folder, config.caption_channels)
    own: dict[str, Any] = dict(name="tiny-ltx", family="ltx", fps=24, size=[size, size], guidance_scale=2.0)
    own |= dict(max_latent_frames=max_latent_frames) | about
    own |= dict(sampling_options={"steps": 3, "shift": 1.0, "sigma_spacing": "quadratic"})
    (folder / "longtake.json").write_text(json.dumps(own), encoding="utf-8", newline="\n")
    return folder


def network(folder: Path) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Load the transformer of a checkpoint -> (x, sigma, text embeddings) -> velocity."""
    net = transformer.load(folder / "transformer").requires_grad_(False)
    return lambda x, sigma, text: net(x, sigma, text)


CASES = {
    "0.9.5": ContractCase(random_ltx, network, "relay", {"steps": 3, "overlap": 9, "window": 33}, 57),
    "0.9.0": ContractCase(partial(random_ltx, grown=False), network, "clip", {"steps": 2}, 33),
}
