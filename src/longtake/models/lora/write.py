"""Writing LoRA files for diffusers and PEFT."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from longtake.core.platform import replace_file
from longtake.models.checkpoints.loading import WeightsError, brief, write_file
from longtake.models.lora.delta import Lora, LoraDelta
from longtake.models.lora.key_formats import METADATA, module_of


def write(lora: Lora, path: Path | str) -> Path:
    """Write a LoRA atomically: a .safetensors file as diffusers reads it, or a folder as PEFT reads it.

    alpha / rank is multiplied into the factor `up`, so that alpha equals the rank: readers that look for alpha in other
    places than this file states it (ComfyUI, kohya) then apply it at strength 1 as it was trained.
    """
    path = Path(path)
    if lora.others:
        raise WeightsError(
            f"{lora.name} changes {brief(lora.others)} by DoRA, LoHa, LoKr or full differences, which PEFT files of a plain LoRA "
            "cannot hold"
        )
    deltas = {name: _unscaled(delta) for name, delta in lora.low_rank.items()}
    single = path.suffix == ".safetensors"
    prefix = "transformer." if single else "base_model.model."
    tensors = {}
    for name, delta in deltas.items():
        for side, tensor in (("A", delta.down), ("B", delta.up)):
            tensors[f"{prefix}{module_of(name)}.lora_{side}.weight"] = tensor.detach().cpu().contiguous()
    config = peft_config(deltas)
    file = path if single else path / "adapter_model.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({f"transformer.{key}": value for key, value in config.items()}, sort_keys=True)
    write_file(tensors, file, {"format": "pt", METADATA: header} if single else {"format": "pt"})
    if not single:
        partial = path / "adapter_config.partial"
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
        replace_file(partial, path / "adapter_config.json")
    return path


def _unscaled(delta: LoraDelta) -> LoraDelta:
    """Return the same change with scale 1; in float32 where a narrower dtype would be rounded."""
    if delta.scale == 1:
        return delta
    exact = math.frexp(delta.scale)[0] == 0.5 or delta.up.dtype in (torch.float32, torch.float64)
    up = (delta.up.detach() if exact else delta.up.detach().float()) * delta.scale
    return LoraDelta(delta.down, up, 1.0)


def peft_config(deltas: Mapping[str, LoraDelta]) -> dict[str, Any]:
    """Return the PEFT config of low-rank changes: the most common rank and alpha, and the modules that differ from them."""
    ranks = {module_of(name): delta.rank for name, delta in deltas.items()}
    alphas = {module_of(name): delta.scale * delta.rank for name, delta in deltas.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }
