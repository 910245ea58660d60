"""Published .pth files to safetensors: the only place where a pickle is opened, by a child process that keeps only tensors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.models.headers import header
from longtake.models.weights import PICKLED, WeightsError, brief

WRAPPERS = ("state_dict", "model_state", "model", "module")  # names under which some files put all their tensors


@dataclass(frozen=True)
class Converted:
    """A file that was made, the SHA-256 of the pickle it was made from, and how many tensors it holds."""

    source: Path
    file: Path
    sha256: str
    tensors: int


def convert(path: Path, out: Path | None = None) -> list[Converted]:
    """The pickle at `path`, or every one in that folder, as safetensors at `out` (default: beside it).

    The child opens it with weights_only, so nothing in it is run; tensors keep their names. WeightsError if there is
    no pickle, if it holds anything but tensors, or if the result is there already.
    """
    jobs = _jobs(path, out)
    for _, file in jobs:
        if file.exists():
            raise WeightsError(f"{file} is there already: move it away, or give another name")
        file.parent.mkdir(parents=True, exist_ok=True)
    hashes = {source: _sha256(source) for source, _ in jobs}
    partial = {file: file.with_name(file.name + ".partial") for _, file in jobs}
    words = [str(name) for source, file in jobs for name in (source, partial[file])]
    command = [sys.executable, "-I", "-m", "longtake.models.convert", *words]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    try:
        if child.returncode:
            lines = child.stderr.strip().splitlines() or [f"the child ended with code {child.returncode}"]
            told = ", ".join(f"{source} (SHA-256 {sha256})" for source, sha256 in hashes.items())
            raise WeightsError(f"{told} not converted: {lines[-1]}")
        made = [Converted(source, file, hashes[source], len(header(partial[file]))) for source, file in jobs]
        for file, whole in partial.items():
            os.replace(whole, file)
        return made
    finally:
        for file in partial.values():
            file.unlink(missing_ok=True)


def _jobs(path: Path, out: Path | None) -> list[tuple[Path, Path]]:
    """Every pickle and what it becomes."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in PICKLED)
        if not found:
            raise WeightsError(f"{path} holds no file that ends in {', '.join(PICKLED)}: nothing to convert")
        return [(file, (out or path) / f"{file.stem}.safetensors") for file in found]
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is safetensors already: nothing to convert")
    return [
        (path, out / f"{path.stem}.safetensors" if out and out.is_dir() else out or path.with_suffix(".safetensors"))
    ]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- in the child
def _child(path: Path, out: Path) -> None:
    """Open one pickle and write its tensors. ValueError says what else it holds."""
    import torch
    from safetensors.torch import save_file

    told = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    tensors = _tensors(told)
    spread = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    seen: set[int] = set()
    for name, tensor in spread.items():
        place = tensor.untyped_storage().data_ptr()
        spread[name] = tensor.clone() if place in seen else tensor  # safetensors refuses tensors that share memory
        seen.add(place)
    save_file(spread, out, {"format": "pt"})


def _tensors(told: object) -> Mapping:
    """The tensors of a file, out of their wrapper if they have one."""
    import torch

    if not isinstance(told, Mapping):
        raise ValueError(f"it holds a {type(told).__name__} instead of named tensors")
    for name in WRAPPERS:
        if isinstance(told.get(name), Mapping):
            return _tensors(told[name])
    strange = [
        f"{name} ({type(value).__name__})" for name, value in told.items() if not isinstance(value, torch.Tensor)
    ]
    if strange or not all(isinstance(name, str) for name in told):
        raise ValueError(f"it holds things that are no tensors: {brief(strange or list(map(repr, told)))}")
    return told


if __name__ == "__main__":
    for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
        try:
            _child(Path(source), Path(target))
        except Exception as error:  # one line for the parent
            print(f"{source}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
            sys.exit(1)
