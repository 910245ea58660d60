"""Load a Wan checkpoint as a `Model`: folders of this project, released ones in every layout, and single files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers.models import WordLevel

from longtake.models.checkpoints import loading as weights
from longtake.models.encoders import clip_vision as clip
from longtake.models.encoders.t5 import T5Encoder
from longtake.models.encoders.umt5 import UmT5Text, read_tokenizer
from longtake.models.encoders.word_text import WordText
from longtake.models.interfaces import VAE, Session, TextEncoder
from longtake.models.lora.per_scene import LoraSet, with_loras
from longtake.models.model import Model, NetworkFeatures
from longtake.models.runtime.load_options import ON_CPU, LoadOptions
from longtake.models.runtime.model_runtime import ModelRuntime
from longtake.models.wan import svi
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.models.wan.layout import components as wan_parts
from longtake.models.wan.layout.components import NAMES, Layout, Part
from longtake.models.wan.layout.files import find, undecided
from longtake.models.wan.layout.lora_names import KEY_FORMAT, SVI_TARGETS
from longtake.models.wan.layout.settings import limits, stated_settings, video_format
from longtake.models.wan.presets import Preset
from longtake.models.wan.session import WanSession
from longtake.models.wan.transformer import WanTransformer
from longtake.models.wan.vae import WanVAE
from longtake.models.wan.vae_config import WanVAEConfig


def open_folder(folder: Path, load_options: LoadOptions = ON_CPU, preset: Preset | None = None) -> Model:
    """Load the model in a folder or file (see `wan.layout.files`); the preset states what the files leave open.

    longtake.json, if there is one, gives the defaults, else the preset that fits. VAE and image encoder are always
    float32. Raises WeightsError with the tensors that are missing, left over or contradictory.
    """
    found, runtime = find(folder, preset), ModelRuntime(load_options)
    _whole(found)
    own = bool(found.about)
    dtype = runtime.dtype(own)
    stated = stated_settings(found)
    config = wan_parts.network(found)
    config = config if stated.max_latent_frames is None else replace(config, max_latent_frames=stated.max_latent_frames)
    vae_config = wan_parts.vae(found)
    vae = _vae(found, vae_config, runtime)
    text = _text(found, torch.float32 if own else dtype, runtime)
    fp8 = runtime.fp8_weights("blocks")
    net = _part(found, "transformer", WanTransformer, config, dtype, runtime.storage, fp8)
    low = _second(found, net, dtype, runtime.storage, fp8)
    nets = [runtime.network(each) for each in (net, low) if each is not None]
    chain = found.preset.chain if found.preset is not None else None
    noise = partial(svi.noise, chain, config.max_latent_frames, dtype=dtype) if chain is not None else None
    targets = SVI_TARGETS if chain is not None else ()
    sets = [LoraSet(each, KEY_FORMAT, runtime.release, targets, load_options.lora_partial) for each in nets]
    lora = sets[0] if low is None else svi.LoraPair(*sets)
    return Model(
        info=replace(stated.info, digest=weights.digest(_files(found)), path=folder),
        format=video_format(stated.format, vae_config, config),
        limits=limits(config, found.kind or "df"),
        session=with_loras(_session(found, nets, vae, runtime), lora),
        vae=vae,
        text_encoder=text,
        defaults=replace(stated.defaults, noise=noise),
        features=NetworkFeatures(
            lora=lora,
            control_width=(config.control_dim or 0) // vae_config.temporal_compression,
            one_part_on_device=runtime.offloads,
            dtype=dtype,
        ),
        device=runtime.device,
    )


def _second(
    found: Layout, net: WanTransformer, dtype: torch.dtype, device: str, fp8: str
) -> WanTransformer | None:  # fmt: skip
    """Load the transformer for low sigmas of a checkpoint with two experts; it has the shape of the first."""
    if not found.second:
        return None
    return weights.load(WanTransformer, net.config, found.second, NAMES["transformer"], dtype, device, fp8)


# ---------------------------------------------------------------- parts
def _whole(found: Layout) -> None:
    """Raise WeightsError unless all parts are present and the kind is known."""
    if found.missing:
        missing = ", ".join(found.missing)
        if found.pickles:
            pickles = weights.brief(found.pickles)
            raise weights.WeightsError(
                f"{found.path} lacks {missing}, but has pickles: run `longtake convert` on {pickles}"
            )
        if found.style == "single files":
            raise weights.WeightsError(
                f"{found.path} lacks {missing}: write a .toml file that names {', '.join(wan_parts.PARTS)} and tokenizer"
            )
        raise weights.WeightsError(f"{found.path} lacks {missing}: copy the whole checkpoint")
    if found.kind is None:
        raise weights.WeightsError(undecided(found))


def _part(
    found: Layout, part: Part, make: Callable, config: Any, dtype: torch.dtype | None, device: str, fp8: str = ""
) -> Any:  # fmt: skip
    """Load one part of the checkpoint; every tensor must be accounted for."""
    return weights.load(make, config, found.parts[part], NAMES[part], dtype, device, fp8)


def _vae(found: Layout, config: WanVAEConfig, runtime: ModelRuntime) -> VAE:
    """Load the VAE. Its convolutions are folded on a CPU, which is decided by where it runs, not where it is stored."""
    vae = _part(found, "vae", WanVAE, config, torch.float32, runtime.storage)
    if runtime.offloads:
        vae.folds = torch.device(runtime.device).type == "cpu"
    return runtime.vae(vae)


def _session(
    found: Layout, nets: Sequence[WanTransformer], vae: VAE, runtime: ModelRuntime
) -> Callable[[], Session]:  # fmt: skip
    """Return a function that makes sessions of the network, or of the two networks."""
    chain = found.preset.chain if found.preset else None
    whole = bool(found.about.get("whole_timesteps", not found.about))
    conditioner = None
    if found.kind == "i2v":
        image_encoder = None
        if found.takes_clip:
            tensors = clip.arranged(weights.read(found.parts["image_encoder"], clip.NAMES))
            image_encoder = weights.assign(
                clip.ClipVision, wan_parts.image_encoder(found), tensors, torch.float32, runtime.storage
            )
            image_encoder = runtime.module(image_encoder, "encode_image")
        inner = cast(WanVAE, vae)
        conditioner = (
            svi.image_conditioner(chain, inner, image_encoder) if chain else ImageConditioner(inner, image_encoder)
        )
    whole = whole and chain is None
    each = [
        runtime.session(partial(WanSession, net, whole, runtime.restore_after(conditioner, net)), net) for net in nets
    ]
    if chain is not None and len(each) == 2:
        return partial(svi.Experts, each[0], each[1], chain.switch)
    return each[0]


def _text(found: Layout, dtype: torch.dtype, runtime: ModelRuntime) -> TextEncoder:
    """Return the text encoder, whose weights the runtime loads when it needs them."""
    assert found.tokenizer is not None
    tokenizer = read_tokenizer(found.tokenizer)
    kind: Any = WordText if isinstance(tokenizer.model, WordLevel) else UmT5Text
    words = wan_parts.words(found)
    return runtime.text_encoder(
        kind(None, tokenizer), lambda: _part(found, "text_encoder", T5Encoder, words, dtype, runtime.device)
    )


def _files(found: Layout) -> list[Path]:
    """Return all files that determine the model's output, in a fixed order."""
    assert found.tokenizer is not None
    if found.style == "diffusers":
        folders = {file.parent for part in found.parts.values() for file in part} | {found.tokenizer}
        return sorted(p for folder in folders for p in folder.iterdir() if p.is_file())
    tokenizer = found.tokenizer / "tokenizer.json" if found.tokenizer.is_dir() else found.tokenizer
    return [*(file for part in sorted(found.parts) for file in found.parts[part]), tokenizer]
