"""Where the weights of a new network come from: from nothing, from a model folder, or from another training run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.models import builtin, weights
from longtake.train.checkpoint import newest_checkpoint, whole_file, write_json
from longtake.train.config import read_table
from longtake.train.family import WAN, Family

SHAPE = "network.json"  # in a run's folder: the whole config of its network


@dataclass(frozen=True)
class Origin:
    """Weights to start from. name: as it was given. folder: of the model around them, which has a codec and a text
    encoder too (None: there is none). files: that they were read from."""

    name: str
    config: Any
    tensors: Mapping[str, Tensor]
    folder: Path | None = None
    files: Sequence[Path] = ()


def network(
    changes: Mapping[str, Any], init: str = "", report: Callable[[str], None] = print, family: Family = WAN
) -> tuple[Any, Origin | None]:
    """A network of a family to train, in float32, and where it came from (None: from nothing).

    init: see `origin`; `changes` then says only what differs: settings that change no tensor (`Family.free`), and, where
    the family lets them grow, more in_channels and parts that were not there (`Family.parts`), which add nothing at first,
    so that the network computes what it did. ValueError names anything else that differs. report is told what was taken
    and what is new.
    """
    if not init:
        net = family.network.make(_configured(changes, family))
        family.network.begin(net)
        return net, None
    start = origin(init, family)
    config = _changed(start, changes, family)
    grown = config.in_channels - start.config.in_channels
    tensors = {name: tensor.float() for name, tensor in start.tensors.items()}
    if grown:
        tensors[family.patch] = widened(tensors[family.patch], config.in_channels)
    parts = _parts(start.config, config, family)
    if parts:
        fresh = family.network.make(config).state_dict().items()
        tensors |= {name: tensor for name, tensor in fresh if name.startswith(tuple(parts.values()))}
    net = weights.assign(family.network.make, config, {name: tensor.clone() for name, tensor in tensors.items()})
    net.train().requires_grad_(True)
    free = [key for key in family.free if getattr(config, key) != getattr(start.config, key)]
    settings = [f"{key} is {getattr(config, key)}" for key in free]
    new = [f"{grown} of {config.in_channels} input channels are new and begin at zero"] if grown else []
    new += [f"{key} {getattr(config, key)} is new and adds nothing at first" for key in parts]
    report("; ".join([f"started from {init}: all {len(start.tensors)} tensors are taken", *new, *settings]))
    return net, start


def _parts(before: Any, now: Any, family: Family) -> dict[str, str]:
    """Settings that add a part which was not there, and how the names of its tensors begin."""
    return {k: v for k, v in family.parts.items() if getattr(before, k) is None and getattr(now, k) is not None}


def widened(weight: Tensor, channels: int) -> Tensor:
    """The weight of a patch embedding (D, C, p, q, r) with zeros for new input channels."""
    new = weight.new_zeros(weight.shape[0], channels - weight.shape[1], *weight.shape[2:])
    return torch.cat([weight, new], 1)


def _configured(settings: Mapping[str, Any], family: Family) -> Any:
    if not settings:
        raise ValueError("say what network to train: a table `network`, or `init`, a model to start from")
    return read_table(family.network.config, settings, "network")


def _changed(start: Origin, changes: Mapping[str, Any], family: Family) -> Any:
    """The config of the start with the changes. ValueError if its weights would not fit."""
    config = _configured(asdict(start.config) | dict(changes), family)
    may = (*family.free, "in_channels") if family.patch else family.free
    for key, value in asdict(start.config).items():
        new = getattr(config, key)
        if key not in (*may, *_parts(start.config, config, family)) and new != value:
            raise ValueError(f"{start.name} has {key} {value}, not {new}: leave {key} out, or start without init")
    if config.in_channels < start.config.in_channels:
        raise ValueError(f"{start.name} takes {start.config.in_channels} channels: in_channels may only grow")
    return config


# ---------------------------------------------------------------- where weights are
def origin(init: str, family: Family = WAN) -> Origin:
    """The weights of a family that `init` names: a built-in model, a model folder, a folder of a transformer, or a training run
    (its averaged weights, newest checkpoint). ValueError says what it found instead."""
    folder = builtin().get(init, Path(init))
    if (folder / "transformer").is_dir():
        return _of_transformer(init, folder / "transformer", folder, family)
    if (newest := newest_checkpoint(folder)) is not None:
        file = whole_file(newest, "ema")
        model = folder / "model" if (folder / "model").is_dir() else None
        return Origin(init, network_of(folder, family), weights.read(file), model, [file])
    if (folder / "config.json").exists() and list(folder.glob("*.safetensors*")):
        return _of_transformer(init, folder, None, family)
    names = ", ".join(builtin())
    raise ValueError(
        f"init {init!r} is neither a built-in model ({names}), a model folder, nor a run with a checkpoint"
    )


def _of_transformer(init: str, folder: Path, model: Path | None, family: Family) -> Origin:
    part = family.network
    config = weights.configure(part.config, folder, part.unused)
    tensors = weights.read(folder, part.names)
    with torch.device("meta"):
        weights.check(part.make(config), tensors)
    about = model / "longtake.json" if model else folder / "longtake.json"
    own = json.loads(about.read_text()) if about.exists() else {}
    free = {key: own[key] for key in family.free if key in own}
    return Origin(init, replace(config, **free), tensors, model, weights.files(folder))


def keep_shape(run: Path, config: Any) -> None:
    """Write the config of a run's network into its folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / SHAPE, asdict(config))


def network_of(run: Path, family: Family = WAN) -> Any:
    """The config of a run's network; ValueError if the folder is no run of a video recipe of that family."""
    if (run / SHAPE).exists():
        return read_table(family.network.config, json.loads((run / SHAPE).read_text()), f"{run / SHAPE}")
    told = json.loads((run / "config.json").read_text()) if (run / "config.json").exists() else {}
    for table in told.values():
        if isinstance(table, dict) and table.get("network"):
            return family.network.config(**table["network"])
    raise ValueError(f"{run} is no run that trained a video network: it has no {SHAPE}")
