"""Where the weights of a new network come from: from nothing, from a model folder, or from another training run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models import builtin, wan, weights
from longtake.models.wan import UNUSED, WanConfig, WanTransformer, initialise
from longtake.train.checkpoint import newest_checkpoint, whole_file, write_json
from longtake.train.config import read_table

FREE = ("causal", "block", "view")  # settings that change no tensor
SHAPE = "network.json"  # in a run's folder: the whole config of its network


@dataclass(frozen=True)
class Origin:
    """Weights to start from. name: as it was given. folder: of the model around them, which has a codec and a text
    encoder too (None: there is none)."""

    name: str
    config: WanConfig
    tensors: Mapping[str, Tensor]
    folder: Path | None = None


def network(
    changes: Mapping[str, Any], init: str = "", report: Callable[[str], None] = print
) -> tuple[WanTransformer, Origin | None]:
    """A network to train, in float32, and where it came from (None: from nothing).

    init: see `origin`; `changes` then says only what differs: `causal`, `block`, `view`, and more in_channels, whose
    weights begin at zero, so that the network computes what it did. ValueError names anything else that differs.
    report is told what was taken and what is new.
    """
    if not init:
        net = WanTransformer(_configured(changes))
        initialise(net)
        return net, None
    start = origin(init)
    config = _changed(start, changes)
    grown = config.in_channels - start.config.in_channels
    tensors = {name: tensor.float() for name, tensor in start.tensors.items()}
    if grown:
        tensors["patch_embedding.weight"] = widened(tensors["patch_embedding.weight"], config.in_channels)
    net = weights.assign(WanTransformer, config, {name: tensor.clone() for name, tensor in tensors.items()})
    net.train().requires_grad_(True)
    settings = [
        f"{key} is {getattr(config, key)}" for key in FREE if getattr(config, key) != getattr(start.config, key)
    ]
    new = [f"{grown} of {config.in_channels} input channels are new and begin at zero"] if grown else []
    report("; ".join([f"started from {init}: all {len(tensors)} tensors are taken", *new, *settings]))
    return net, start


def widened(weight: Tensor, channels: int) -> Tensor:
    """The weight of a patch embedding (D, C, p, q, r) with zeros for new input channels."""
    new = weight.new_zeros(weight.shape[0], channels - weight.shape[1], *weight.shape[2:])
    return torch.cat([weight, new], 1)


def _configured(settings: Mapping[str, Any]) -> WanConfig:
    if not settings:
        raise ValueError("say what network to train: a table `network`, or `init`, a model to start from")
    return read_table(WanConfig, settings, "network")


def _changed(start: Origin, changes: Mapping[str, Any]) -> WanConfig:
    """The config of the start with the changes. ValueError if its weights would not fit."""
    config = _configured(asdict(start.config) | dict(changes))
    for key, value in asdict(start.config).items():
        new = getattr(config, key)
        if key not in (*FREE, "in_channels") and new != value:
            raise ValueError(f"{start.name} has {key} {value}, not {new}: leave {key} out, or start without init")
    if config.in_channels < start.config.in_channels:
        raise ValueError(f"{start.name} takes {start.config.in_channels} channels: in_channels may only grow")
    return config


# ---------------------------------------------------------------- where weights are
def origin(init: str) -> Origin:
    """The weights that `init` names: a built-in model, a model folder, a folder of a transformer, or a training run
    (its averaged weights, newest checkpoint). ValueError says what it found instead."""
    folder = builtin().get(init, Path(init))
    if (folder / "transformer").is_dir():
        return _of_transformer(init, folder / "transformer", folder)
    if (newest := newest_checkpoint(folder)) is not None:
        tensors = weights.read(whole_file(newest, "ema"))
        return Origin(init, network_of(folder), tensors, folder / "model" if (folder / "model").is_dir() else None)
    if (folder / "config.json").exists() and list(folder.glob("*.safetensors*")):
        return _of_transformer(init, folder, None)
    names = ", ".join(builtin())
    raise ValueError(
        f"init {init!r} is neither a built-in model ({names}), a model folder, nor a run with a checkpoint"
    )


def _of_transformer(init: str, folder: Path, model: Path | None) -> Origin:
    config = weights.configure(WanConfig, folder, UNUSED)
    tensors = weights.read(folder, wan.NAMES)
    with torch.device("meta"):
        weights.check(WanTransformer(config), tensors)
    about = model / "longtake.json" if model else folder / "longtake.json"
    own = json.loads(about.read_text()) if about.exists() else {}
    return Origin(init, replace(config, **{key: own[key] for key in FREE if key in own}), tensors, model)


def keep_shape(run: Path, config: WanConfig) -> None:
    """Write the config of a run's network into its folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / SHAPE, asdict(config))


def network_of(run: Path) -> WanConfig:
    """The config of a run's network; ValueError if the folder is no run of a video recipe."""
    if (run / SHAPE).exists():
        return WanConfig(**json.loads((run / SHAPE).read_text()))
    told = json.loads((run / "config.json").read_text()) if (run / "config.json").exists() else {}
    for table in told.values():
        if isinstance(table, dict) and table.get("network"):
            return WanConfig(**table["network"])
    raise ValueError(f"{run} is no run that trained a video network: it has no {SHAPE}")
