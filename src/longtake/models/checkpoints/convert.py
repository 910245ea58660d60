"""Converting published .pth files to safetensors, in a child process: the only place where a pickle is opened."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.core.platform import delete_file, replace_file
from longtake.models.checkpoints.disk import PICKLED, WeightsError, brief, file_kind, foreign
from longtake.models.checkpoints.safetensors_headers import header

PACKAGES = Path(__file__).parents[3]  # the folder that this package is imported from, for the child
# keys under which files nest all their tensors; where there are averaged weights, those are used
WRAPPERS = ("generator_ema", "generator", "state_dict", "model_state", "model", "module")


@dataclass(frozen=True)
class Converted:
    """A converted file, the SHA-256 of the pickle that it comes from, and the number of its tensors."""

    source: Path
    file: Path
    sha256: str
    tensors: int


def convert(path: Path, out: Path | None = None) -> list[Converted]:
    """Convert the pickle at `path`, or every one in that folder, to safetensors at `out` (default: beside it).

    The child opens it with weights_only, so no code in it runs; tensors keep their names. Raises WeightsError if there is
    no pickle, if it contains anything but tensors, or if the output exists.
    """
    jobs = _jobs(path, out)
    for source, file in jobs:
        _check_pickle(source)
        if file.exists() or file.is_symlink():
            raise WeightsError(f"{file} exists already: move it away, or choose another output")
        file.parent.mkdir(parents=True, exist_ok=True)
    hashes = {source: _sha256(source) for source, _ in jobs}
    partial = {file: file.with_name(file.name + ".partial") for _, file in jobs}
    words = [str(name) for source, file in jobs for name in (source, partial[file])]
    start = f"import sys; sys.path.insert(0, {str(PACKAGES)!r}); from {__name__} import convert_all; convert_all()"
    command = [sys.executable, "-I", "-c", start, *words]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace")
    try:
        if child.returncode:
            lines = child.stderr.strip().splitlines() or [f"the child process ended with code {child.returncode}"]
            failed = next((source for source in hashes if lines[-1].startswith(f"{source}: ")), None)
            what = f"{failed} (SHA-256 {hashes[failed]})" if failed else f"{path}"
            raise WeightsError(f"{what} not converted: {lines[-1].removeprefix(f'{failed}: ')}")
        made = [Converted(source, file, hashes[source], len(header(partial[file]))) for source, file in jobs]
        for file, whole in partial.items():
            replace_file(whole, file)
        return made
    finally:
        for file in partial.values():
            delete_file(file)


def _jobs(path: Path, out: Path | None) -> list[tuple[Path, Path]]:
    """Return every pickle with the file that it is converted to."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in PICKLED)
        if not found:
            raise WeightsError(f"{path} holds no file that ends in {', '.join(PICKLED)}: nothing to convert")
        return [(file, (out or path) / f"{file.stem}.safetensors") for file in found]
    if not path.exists():
        raise WeightsError(f"there is no file {path}")
    _check_pickle(path)
    if path.suffix == ".safetensors" and out is None:
        raise WeightsError(f"{path} is a pickle in spite of its name: give a name for the safetensors file too")
    return [
        (path, out / f"{path.stem}.safetensors" if out and out.is_dir() else out or path.with_suffix(".safetensors"))
    ]


def _check_pickle(path: Path) -> None:
    """Raise WeightsError that says what a file is, if its first bytes are those of another kind of file."""
    kind = file_kind(path)
    if kind == "safetensors":
        raise WeightsError(f"{path} is safetensors already: nothing to convert")
    if kind == "gguf":
        raise WeightsError(f"{path} is GGUF, which is read as it is: nothing to convert")
    if kind != "pickle":
        what = foreign(path) or "no pickle of PyTorch: it is damaged or of another kind; fetch it again"
        raise WeightsError(f"{path} not converted: it is {what}")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- in the child
def _child(path: Path, out: Path) -> None:
    """Open one pickle and write its tensors. Raises ValueError if it contains anything else."""
    import torch
    from safetensors.torch import save_file

    zipped = zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # of many types; its text advises to load with code
        raise ValueError(_reason(str(error), zipped)) from error
    tensors = unwrap(content)
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    storages: set[int] = set()
    for name, tensor in contiguous.items():
        place = tensor.untyped_storage().data_ptr()
        contiguous[name] = tensor.clone() if place in storages else tensor  # safetensors refuses shared memory
        storages.add(place)
    save_file(contiguous, out, {"format": "pt"})


def _reason(text: str, zipped: bool) -> str:
    """Return why PyTorch opens a file no further than tensors go, without its advice to run the code inside."""
    if named := re.search(r"(?:GLOBAL|class) ([A-Za-z_]\w*(?:\.\w+)+)", text):
        return (
            f"it holds {named[1]} besides tensors, which would run code when it is opened: ask its authors for safetensors, or "
            "save its state dict alone"
        )
    whole = "its archive is damaged or cut short" if zipped else "it is damaged, cut short, or no pickle of tensors"
    return f"{whole}: fetch it again, or ask its authors for safetensors"


def unwrap(content: object) -> Mapping:
    """Return the tensors of a file, from inside its wrapper if it has one."""
    import torch

    if not isinstance(content, Mapping):
        raise ValueError(f"it contains a {type(content).__name__} instead of named tensors")
    for name in WRAPPERS:
        if isinstance(content.get(name), Mapping):
            return unwrap(content[name])
    others = [
        f"{name} ({type(value).__name__})" for name, value in content.items() if not isinstance(value, torch.Tensor)
    ]
    if others or not all(isinstance(name, str) for name in content):
        raise ValueError(f"it contains values that are not tensors: {brief(others or list(map(repr, content)))}")
    return content


def convert_all() -> None:
    """Convert the files that the arguments name, each followed by its output; end with one line for the parent if one fails."""
    for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
        try:
            _child(Path(source), Path(target))
        except Exception as error:
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            print(f"{source}: {reason}".splitlines()[0], file=sys.stderr)
            sys.exit(1)
