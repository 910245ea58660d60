"""Weights from disk into networks: read strictly and written atomically, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longtake.core.finite import first_non_finite
from longtake.core.flat_config import to_flat
from longtake.core.platform import delete_file, replace_file, sync_file
from longtake.models.checkpoints.configs import as_config, check_quantisation, configure
from longtake.models.checkpoints.disk import PICKLED, WeightsError, brief, check_regular, damaged, file_kind, read_json
from longtake.models.checkpoints.gguf_file import read_gguf
from longtake.models.checkpoints.part_files import check_index, check_pickle, files, part_files, weight_files
from longtake.models.checkpoints.quantised import Stored, check_floating, form, fp8_parameter, scaled
from longtake.models.checkpoints.tensor_names import WRAPPERS, Names, rename

__all__ = [
    "PICKLED", "WRAPPERS", "Names", "WeightsError", "as_config", "assign", "blank", "brief", "check", "check_quantisation", "configure", "digest",
    "files", "load", "part_files", "read", "read_file", "read_json", "read_stored", "rename", "save", "weight_files",
    "write_file",
]  # fmt: skip

Config = TypeVar("Config")
Net = TypeVar("Net", bound=nn.Module)


def load(
    make: Callable[[Config], Net], config: Config, path: Path | str | Iterable[Path], names: Names = (),
    dtype: torch.dtype | None = None, device: torch.device | str = "cpu", fp8: str = "",
) -> Net:  # fmt: skip
    """Load a network from the weights at `path` (folder, file or files), renamed by `names`; dtype None keeps the stored one.

    The network is built on the meta device and the tensors become its parameters, so no weight is in memory twice. fp8:
    see `assign`. Raises WeightsError for missing, unexpected or differently shaped tensors.
    """
    return assign(make, config, read_stored(path, names), dtype, device, fp8)


def assign(
    make: Callable[[Config], Net], config: Config, tensors: Mapping[str, Stored],
    dtype: torch.dtype | None = None, device: torch.device | str = "cpu", fp8: str = "",
) -> Net:  # fmt: skip
    """Build a network whose parameters are these tensors. Raises WeightsError unless they match one to one.

    fp8: a pattern for the beginning of the names of weights whose matrices (of linear layers) become float8 one by one:
    those that the file holds in float8 as they are there, with its scales. Others are dequantised.
    """
    net = blank(make, config)
    check(net, tensors)
    linear = {f"{name}.weight" for name, layer in net.named_modules() if isinstance(layer, nn.Linear)}
    placed = {}
    for name, stored in tensors.items():
        if fp8 and name in linear and re.match(fp8, name):
            placed[name] = cast(Tensor, fp8_parameter(stored, device, dtype or torch.float32))
        else:
            whole = isinstance(stored, Tensor) and not stored.is_floating_point()
            placed[name] = stored.to(device, None if whole else dtype)
    packed = [(name, one) for name, one in placed.items() if not isinstance(tensors[name], Tensor)]
    if (bad := first_non_finite(packed)) is not None:
        raise WeightsError(
            f"{bad} of {type(net).__name__} holds NaN or infinity once it is dequantised: fetch the file again"
        )
    if dtype == torch.float16 and (bad := first_non_finite(placed.items())) is not None:
        raise WeightsError(
            f"{bad} of {type(net).__name__} has numbers beyond 65504, where float16 ends: use --dtype bf16"
        )
    net.load_state_dict(placed, assign=True)
    return net.eval()


def blank(make: Callable[[Config], Net], config: Config) -> Net:
    """Build a network without weights, on the meta device. Raises WeightsError if its config describes none."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of torch, about the initial values of a layer without channels
            return make(config)
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"the config of this checkpoint describes no network: {reason}") from error


def check(net: nn.Module, tensors: Mapping[str, Stored]) -> None:
    """Raise WeightsError with the tensors that are missing, left over, of another shape, or stored as whole numbers."""
    state = net.state_dict()
    needed = {name: tuple(tensor.shape) for name, tensor in state.items()}
    floating = {name: form(tensors[name]) for name in needed if name in tensors and state[name].is_floating_point()}
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
    if whole := check_floating(floating):
        raise WeightsError(
            f"the weights of {type(net).__name__} are quantised to whole numbers without scales: {whole}: use the bf16, the "
            "scaled fp8 or the GGUF version of the checkpoint"
        )


def read(path: Path | str | Iterable[Path], names: Names = (), dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Read all tensors of a folder, of a file, or of several files, renamed by `names`, as they are stored.

    Those in fewer bits (see `read_stored`) are dequantised to `dtype` (None: float32).
    """
    found = read_stored(path, names)
    return {name: one if isinstance(one, Tensor) else one.to("cpu", dtype) for name, one in found.items()}


def read_stored(path: Path | str | Iterable[Path], names: Names = ()) -> dict[str, Stored]:
    """Read all tensors in the form that the files hold them in: plain, scaled float8 or quantised as in GGUF."""
    found: dict[str, Stored] = {}
    listed = files(path) if isinstance(path, (str, Path)) else list(path)
    seen: list[str] = []
    for file in listed:
        for old, stored in read_file(file).items():
            seen.append(old)
            new = rename(old, names)
            if new in found and not torch.equal(found[new].to("cpu", None), stored.to("cpu", None)):
                raise WeightsError(f"{file}: {old} is a second {new}, with other values")
            if new is not None:
                found[new] = stored
    check_index(listed, seen)
    return scaled(found, brief([str(file) for file in listed], 1))


def read_file(file: Path) -> Mapping[str, Stored]:
    """Read the tensors of one safetensors or GGUF file; they are memory-mapped, not copied."""
    check_pickle(file)
    if file_kind(file) == "gguf":
        return read_gguf(file)
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise damaged(file, error) from error
    if (bad := first_non_finite(tensors.items())) is not None:
        raise WeightsError(
            f"{file}: the tensor {bad} holds NaN or infinity, so every video would be black: fetch the file again, or "
            "make it again if it was trained or converted here"
        )
    return tensors


def save(
    net: nn.Module, config: Any, folder: Path | str, *, name: str = "diffusion_pytorch_model",
    kind: str = "", dtype: torch.dtype | None = None,
) -> Path:  # fmt: skip
    """Write config.json and `name`.safetensors, each atomically; `kind` is the _class_name that diffusers looks for."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for key, tensor in net.state_dict().items()
    }
    file = folder / f"{name}.safetensors"
    write_file(tensors, file, {"format": "pt"})
    settings = ({"_class_name": kind} if kind else {}) | to_flat(config)
    partial = folder / "config.partial"
    partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")
    replace_file(partial, folder / "config.json")
    return file


def write_file(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically: it is flushed to disk before it gets its name. Raises OSError.

    The same tensors and metadata give the same bytes.
    """
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        save_file(dict(tensors), partial, dict(metadata or {}))
        _sort_metadata(partial)
        sync_file(partial)
        replace_file(partial, file)
    except (OSError, SafetensorError) as error:
        raise OSError(f"{file} could not be written: {error}; make room and start the same command again") from error
    finally:
        delete_file(partial)


def _sort_metadata(file: Path) -> None:
    """Sort the metadata in the header of a file: the library writes the entries in an order that changes from call to call."""
    with open(file, "r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        if len(header.get("__metadata__", ())) < 2:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # as long as before, but for the spaces that end a header
            opened.seek(8)
            opened.write(text.ljust(size))


def digest(paths: Iterable[Path | str]) -> str:
    """Return one SHA-256 of several files in this order."""
    total = hashlib.sha256()
    for path in paths:
        check_regular(Path(path))
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
