"""Checkpoints and LoRAs in the folders of --models-dir, by names in there. Links that lead out of a folder are not followed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import InputError
from longtake.models.registry import LORA_TENSOR

WEIGHTS = (".safetensors", ".sft", ".gguf")
DESCRIBED = ("longtake.json", "model_index.json")  # a folder with one of these is a checkpoint
OTHER_PARTS = {
    "clip", "clip_vision", "controlnet", "embeddings", "latent_upscale_models", "loras", "style_models", "text_encoders",
    "upscale_models", "vae", "vae_approx",
}  # folders of ComfyUI that hold no checkpoints  # fmt: skip
DEEPEST = 4
MOST = 5000  # entries that are looked at
_PLAIN = re.compile(r"[^\x00-\x1f\\:]{1,200}")


@dataclass(frozen=True)
class FoundFile:
    """A checkpoint or a LoRA. name: its path inside the folder of models, with /. bytes: of the file; 0 for a folder."""

    name: str
    path: Path
    bytes: int


@dataclass(frozen=True)
class ModelFiles:
    """The folders of models that a server offers. uploads: the folder of LoRAs that clients sent."""

    folders: Sequence[Path] = ()
    uploads: Path | None = None

    def checkpoints(self) -> dict[str, FoundFile]:
        """Return the checkpoints by name; of two with the same name the one of the first folder."""
        found: dict[str, FoundFile] = {}
        for root in self.folders:
            for one in _walked(root, root, _is_checkpoint, OTHER_PARTS):
                found.setdefault(one.name, one)
        return found

    def loras(self) -> dict[str, FoundFile]:
        """Return the LoRAs by name: those in folders named loras, and those that were sent."""
        found: dict[str, FoundFile] = {}
        for root in (*(folder / "loras" for folder in self.folders), *([self.uploads] if self.uploads else [])):
            for one in _walked(root, root, is_lora, frozenset()):
                found.setdefault(one.name, one)
        return found


def is_lora(path: Path) -> bool:
    """Whether a file is a LoRA by the names of its tensors. Reads its header alone."""
    from longtake.models.checkpoints.safetensors_headers import header

    if path.suffix not in WEIGHTS or not path.is_file():
        return False
    try:
        names = header(path)
    except InputError:
        return False
    return bool(names) and all(LORA_TENSOR.search(name) for name in names)


def _is_checkpoint(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in DESCRIBED)
    return path.suffix in WEIGHTS and path.is_file() and not is_lora(path)


def _walked(root: Path, folder: Path, wanted, skipped, depth: int = 0) -> Iterator[FoundFile]:  # type: ignore[no-untyped-def]
    """Yield what is wanted below a folder, without going into it, or out of the root."""
    if depth > DEEPEST or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)[:MOST]
    for name in names:
        path = folder / name
        if name.startswith(".") or not _PLAIN.fullmatch(name) or not _inside(path, root):
            continue
        if wanted(path):
            if all(_inside(file, root) for file in _files(path)):
                size = path.stat().st_size if path.is_file() else 0
                yield FoundFile(path.relative_to(root).as_posix(), path, size)
        elif path.is_dir() and name not in skipped:
            yield from _walked(root, path, wanted, skipped, depth + 1)


def _files(path: Path) -> Iterator[Path]:
    """Yield a checkpoint's files, without following links to folders."""
    for folder, folders, files in os.walk(path):
        yield from (Path(folder) / name for name in (*folders, *files))


def _inside(path: Path, root: Path) -> bool:
    """Whether a path, with its links followed, is below the root."""
    try:
        return path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):
        return False
