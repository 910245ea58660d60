"""A Wan checkpoint folder (diffusers layout) as a Model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longtake.models import weights
from longtake.models.base import Model
from longtake.models.text import WordText
from longtake.models.wan import NAMES, WanConfig, WanTransformer
from longtake.models.wan_codec import NAMES as CODEC_NAMES
from longtake.models.wan_codec import WanCodec, WanCodecConfig
from longtake.models.wan_session import WanSession
from longtake.plan import Limits

PARTS = ("transformer", "vae", "text_encoder", "tokenizer")


def open_folder(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Model:
    """The model in a folder with transformer/, vae/, text_encoder/ and tokenizer/, and longtake.json for its defaults.

    dtype is that of the transformer; codec and text encoder run in float32. WeightsError names what is missing.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise weights.WeightsError(f"{folder} lacks {', '.join(missing)}: copy the whole checkpoint")
    about = weights.read_json(folder / "longtake.json")
    config = weights.configure(WanConfig, folder / "transformer")
    config = replace(config, **{key: about[key] for key in ("view", "block", "causal") if key in about})
    net = weights.load(WanTransformer, config, folder / "transformer", NAMES, dtype, device)
    codec_config = weights.configure(WanCodecConfig, folder / "vae")
    codec = weights.load(WanCodec, codec_config, folder / "vae", CODEC_NAMES, torch.float32, device)
    return Model(
        name=about["name"],
        family="wan",
        limits=Limits(view=config.view, block=config.block, causal=config.causal),
        session=lambda: WanSession(net),
        codec=codec,
        text=WordText.load(folder / "text_encoder", folder / "tokenizer", torch.float32, device),
        fps=about["fps"],
        size=tuple(about["size"]),
        digest=weights.digest(sorted(p for part in PARTS for p in (folder / part).iterdir() if p.is_file())),
        path=folder,
        tokens=_tokens(about["size"], codec_config.scale, config.patch_size),
        device=device,
        **_defaults(about),
    )


def _tokens(size: Sequence[int], scale: int, patch: Sequence[int]) -> int:
    """Tokens of one latent frame."""
    return (size[0] // scale // patch[1]) * (size[1] // scale // patch[2])


def _defaults(about: dict[str, Any]) -> dict[str, Any]:
    """The optional part of longtake.json."""
    known = ("guidance", "negative", "plan", "options", "sampling", "vocabulary")
    return {key: about[key] for key in known if key in about} | {"rates": tuple(about.get("rates", [about["fps"]]))}
