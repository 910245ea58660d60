"""Initial weights of a network: random ones, or those of a model folder or of another training run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.files import missing_path
from longtake.models import builtin
from longtake.models.checkpoints import loading as weights
from longtake.models.family import TrainingHooks
from longtake.train.run.checkpoint import newest_checkpoint, whole_file, write_json
from longtake.train.toml_config import read_table
from longtake.train.weights.families import check_network, default_family, training_hooks

SHAPE = "network.json"  # in the folder of a run: the whole config of its network


@dataclass(frozen=True)
class InitWeights:
    """Weights that training starts from.

    name: as the config has it. folder: of the model that they belong to, which has a VAE and a text encoder too (None:
    there is none). files: from which they were read.
    """

    name: str
    config: Any
    tensors: Mapping[str, Tensor]
    folder: Path | None = None
    files: Sequence[Path] = ()


def network(
    changes: Mapping[str, Any], init: str = "", report: Callable[[str], None] = print, family: str = ""
) -> tuple[Any, InitWeights | None]:
    """Make a network of a family for training, in float32; also return the weights it starts from (None: random ones).

    init: see `find_init_weights`. `changes` then holds only what differs: settings that change no tensor (`InitRules.free`),
    and, where the family allows it, more in_channels and added parts (`InitRules.parts`). New weights start so that the
    network computes what it did before. ValueError names any other difference. report gets a line on what was loaded.
    """
    hooks = training_hooks(family or default_family())
    if not init:
        net = hooks.transformer.make(_configured(changes, hooks))
        check_network(net)
        hooks.transformer.initialise(net)
        return net, None
    start = find_init_weights(init, family)
    config = _changed(start, changes, hooks)
    grown = config.in_channels - start.config.in_channels
    tensors = {name: tensor.float() for name, tensor in start.tensors.items()}
    if grown:
        tensors[hooks.init.patch] = widened(tensors[hooks.init.patch], config.in_channels)
    parts = _parts(start.config, config, hooks)
    if parts:
        fresh = hooks.transformer.make(config).state_dict().items()
        tensors |= {name: tensor for name, tensor in fresh if name.startswith(tuple(parts.values()))}
    net = weights.assign(hooks.transformer.make, config, {name: tensor.clone() for name, tensor in tensors.items()})
    check_network(net)
    net.train().requires_grad_(True)
    free = [key for key in hooks.init.free if getattr(config, key) != getattr(start.config, key)]
    settings = [f"{key} is {getattr(config, key)}" for key in free]
    new = [f"{grown} of {config.in_channels} input channels are new and start at zero"] if grown else []
    new += [f"{key} {getattr(config, key)} is new and starts without effect" for key in parts]
    report("; ".join([f"started from {init}: loaded all {len(start.tensors)} tensors", *new, *settings]))
    return net, start


def _parts(before: Any, now: Any, hooks: TrainingHooks) -> dict[str, str]:
    """Return the settings that add a part to the network, with the prefix of its tensors' names."""
    return {k: v for k, v in hooks.init.parts.items() if getattr(before, k) is None and getattr(now, k) is not None}


def widened(weight: Tensor, channels: int) -> Tensor:
    """Append zeros for new input channels to the weight of a patch embedding (D, C, p, q, r)."""
    new = weight.new_zeros(weight.shape[0], channels - weight.shape[1], *weight.shape[2:])
    return torch.cat([weight, new], 1)


def _configured(settings: Mapping[str, Any], hooks: TrainingHooks) -> Any:
    if not settings:
        raise ValueError("there is no network to train: add a table `network`, or set `init` to a model to start from")
    return read_table(hooks.transformer.config, settings, "network")


def _changed(start: InitWeights, changes: Mapping[str, Any], hooks: TrainingHooks) -> Any:
    """Return the initial network's config with the changes. ValueError if its weights would not fit."""
    config = _configured(asdict(start.config) | dict(changes), hooks)
    may = (*hooks.init.free, "in_channels") if hooks.init.patch else hooks.init.free
    for key, value in asdict(start.config).items():
        new = getattr(config, key)
        if key not in (*may, *_parts(start.config, config, hooks)) and new != value:
            raise ValueError(f"{start.name} has {key} {value}, not {new}: remove {key}, or start without init")
    if config.in_channels < start.config.in_channels:
        raise ValueError(f"{start.name} has {start.config.in_channels} input channels: in_channels may only grow")
    return config


# ---------------------------------------------------------------- finding weights
def find_init_weights(init: str, family: str = "") -> InitWeights:
    """Find the weights of a family that `init` names.

    init: a built-in model, a model folder, a folder of a transformer, or a training run (the averaged weights of its newest
    checkpoint). ValueError says what it found instead.
    """
    hooks, folder = training_hooks(family or default_family()), builtin().get(init, Path(init))
    if (folder / "transformer").is_dir():
        return _of_transformer(init, folder / "transformer", folder, hooks)
    if (newest := newest_checkpoint(folder)) is not None:
        file = whole_file(newest, "ema")
        model = folder / "model" if (folder / "model").is_dir() else None
        return InitWeights(init, network_of(folder, family), weights.read(file), model, [file])
    if (folder / "config.json").exists() and list(folder.glob("*.safetensors*")):
        return _of_transformer(init, folder, None, hooks)
    names = ", ".join(builtin())
    raise ValueError(
        f"init {init!r} is neither a built-in model ({names}), a model folder, nor a run with a checkpoint{_hint(folder)}"
    )


def _hint(folder: Path) -> str:
    """Return what to do about a folder that holds no weights to start from."""
    if not folder.exists():
        return f": {missing_path(folder)}"
    if (folder / "config.json").exists() and (folder / "log.jsonl").exists():
        return f": let `longtake train` run until its first checkpoint in {folder}"
    return ""


def _of_transformer(init: str, folder: Path, model: Path | None, hooks: TrainingHooks) -> InitWeights:
    part = hooks.transformer
    config = weights.configure(part.config, folder, part.unused)
    tensors = weights.read(folder, part.names)
    with torch.device("meta"):
        weights.check(part.make(config), tensors)
    about = model / "longtake.json" if model else folder / "longtake.json"
    own = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    free = {key: own[key] for key in hooks.init.free if key in own}
    return InitWeights(init, replace(config, **free), tensors, model, weights.files(folder))


def write_shape(run: Path, config: Any) -> None:
    """Write the config of a run's network into the run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / SHAPE, asdict(config))


def network_of(run: Path, family: str = "") -> Any:
    """Read the config of a run's network; ValueError if the folder is not a run that trained a network of the family."""
    if not (run / SHAPE).exists():
        raise ValueError(f"{run} is not a run that trained a video network: it has no {SHAPE}")
    return read_table(
        training_hooks(family or default_family()).transformer.config,
        json.loads((run / SHAPE).read_text(encoding="utf-8")),
        f"{run / SHAPE}",
    )
