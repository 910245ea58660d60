"""Weights on disk: diffusers folders and safetensors files, read strictly, written whole; nothing is ever unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Names = Sequence[tuple[str, str | Callable[[re.Match], str] | None]]  # pattern and what stands in its place; None: drop
Config = TypeVar("Config")
Net = TypeVar("Net", bound=nn.Module)
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


class WeightsError(ValueError):
    """Weights that cannot be used; the message says which file or tensor, and what to do."""


def load(
    make: Callable[[Config], Net], config: Config, path: Path | str, names: Names = (),
    dtype: torch.dtype | None = None, device: torch.device | str = "cpu",
) -> Net:  # fmt: skip
    """A network with the weights at `path` (folder or file), renamed by `names`; dtype None keeps the stored one.

    The network is made without storage and the tensors become its parameters, so nothing is held twice.
    """
    return assign(make, config, read(path, names), dtype, device)


def assign(
    make: Callable[[Config], Net], config: Config, tensors: Mapping[str, Tensor],
    dtype: torch.dtype | None = None, device: torch.device | str = "cpu",
) -> Net:  # fmt: skip
    """A network whose parameters are these tensors; every one must have its place, and every place its tensor."""
    with torch.device("meta"):
        net = make(config)
    check(net, tensors)
    placed = {
        name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in tensors.items()
    }
    net.load_state_dict(placed, assign=True)
    return net.eval()


def check(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that do not fit the network, naming what is missing, left over, or of another shape."""
    needed = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    faults = {
        "missing": [name for name in needed if name not in tensors],
        "left over": [name for name in tensors if name not in needed],
        "of another shape": [
            f"{name} is {tuple(tensors[name].shape)}, not {shape}"
            for name, shape in needed.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(found)} {fault}: {brief(found)}" for fault, found in faults.items() if found)
        raise WeightsError(f"the weights do not fit {type(net).__name__}: {listed}")


def brief(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def read(path: Path | str | Iterable[Path], names: Names = ()) -> dict[str, Tensor]:
    """All tensors of a folder, of a file, or of some files, under their new names."""
    found: dict[str, Tensor] = {}
    for file in files(path) if isinstance(path, (str, Path)) else path:
        for old, tensor in read_file(file).items():
            new = rename(old, names)
            if new in found and not torch.equal(found[new], tensor):
                raise WeightsError(f"{file}: {old} is a second {new}, with other values")
            if new is not None:
                found[new] = tensor
    return found


def read_file(file: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, mapped into memory rather than copied."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{file} is damaged or cut short ({error}): fetch it again") from error


def rename(name: str, names: Names) -> str | None:
    """Apply every rule in order; None if a rule drops the name."""
    for pattern, place in names:
        if place is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, place, name)
    return name


def files(path: Path | str) -> list[Path]:
    """The safetensors files of a folder: the shards its index lists, or its only one. A file stands for itself."""
    path = Path(path)
    if path.is_file():
        if path.suffix in PICKLED:
            raise WeightsError(f"{path} is a pickle, which can run code: convert it to safetensors first")
        return [path]
    if not path.is_dir():
        raise WeightsError(
            f"no weights at {path}: give a folder with config.json and safetensors, or a safetensors file"
        )
    indices, found = sorted(path.glob("*.safetensors.index.json")), sorted(path.glob("*.safetensors"))
    if indices:
        return shards(indices[0])
    if len(found) == 1:
        return found
    if found:
        raise WeightsError(f"{path} holds {brief([f.name for f in found])} and no index: name the one to read")
    pickles = [f.name for f in sorted(path.iterdir()) if f.suffix in PICKLED]
    hint = f", only pickles ({brief(pickles)}): convert them first" if pickles else ""
    raise WeightsError(f"{path} holds no safetensors file{hint}")


def part_files(folder: Path) -> list[Path]:
    """What a part of a model is made from: its safetensors files and its config."""
    return [*files(folder), folder / "config.json"]


def shards(index: Path) -> list[Path]:
    """The files that an index lists."""
    parts = [index.parent / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise WeightsError(f"{index.parent} lacks {brief(missing)}, which {index.name} lists: fetch them again")
    return parts


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, with its name in the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error


def configure(kind: Callable[..., Config], path: Path | str, unused: Mapping[str, Any] | None = None) -> Config:
    """The config dataclass `kind` from the config.json of a folder.

    Keys that start with _ and keys that say None are passed over; so are keys of `unused` with the value given
    there. Any other key that `kind` does not know is refused: it would change what the network computes.
    """
    file = Path(path) / "config.json"
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = {key: value for key, value in read_json(file).items() if not key.startswith("_")}
    neutral = {None: None} | dict(unused or {})
    strange = [f"{k} = {v}" for k, v in given.items() if k not in known and v is not None and neutral.get(k) != v]
    if strange:
        raise WeightsError(f"{file} has settings that this version does not know: {brief(strange)}")
    try:
        return kind(**{key: value for key, value in given.items() if key in known})
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file}: {error}") from error


def save(
    net: nn.Module, config: Any, folder: Path | str, *, name: str = "diffusion_pytorch_model",
    kind: str = "", dtype: torch.dtype | None = None,
) -> Path:  # fmt: skip
    """Write config.json and `name`.safetensors, each whole or not at all; `kind` is the _class_name others look for."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for key, tensor in net.state_dict().items()
    }
    file = folder / f"{name}.safetensors"
    write_file(tensors, file, {"format": "pt"})
    settings = ({"_class_name": kind} if kind else {}) | dataclasses.asdict(config)
    partial = folder / "config.partial"
    partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")
    return file


def write_file(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all: it is on the disk before it has its name. OSError says why it is not."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        save_file(dict(tensors), partial, dict(metadata or {}))
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{file} could not be written: {error}; make room and start the same command again") from error
    finally:
        partial.unlink(missing_ok=True)


def digest(paths: Iterable[Path | str]) -> str:
    """One SHA-256 for some files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
