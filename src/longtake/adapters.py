"""The LoRA files of a run: named by their whole path, told apart by their SHA-256, the same ones when it goes on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from longtake.script import Scene, Script, ScriptError, in_folder, network_of


def placed(script: Script, everywhere: Sequence[tuple[str, float]] = ()) -> Script:
    """The script with whole paths of its LoRAs, and with those of `everywhere` in every scene that does not name them.

    Paths are taken from the working folder; those of a .toml file were taken from its own folder when it was read.
    """

    def scene(one: Scene) -> Scene:
        own, also = ({in_folder(name, _whole): s for name, s in some} for some in (one.lora, everywhere))
        return replace(one, lora=tuple((also | own).items()))

    return replace(script, scenes=tuple(map(scene, script.scenes))) if everywhere or _any(script) else script


def hashes(script: Script) -> dict[str, str]:
    """{path: SHA-256} of every LoRA of a script. ScriptError names a file that is not there."""
    files = dict.fromkeys(network_of(name)[1] for scene in script.scenes for name, _ in scene.lora)
    return {file: sha256(Path(file)) for file in files}


def sha256(path: Path) -> str:
    """Of a file, or of the names and contents of all files of a folder. ScriptError if it is not there."""
    try:
        if not path.is_dir():
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        whole = hashlib.sha256()
        for part in sorted(part for part in path.iterdir() if part.is_file()):
            whole.update(f"{part.name} {sha256(part)}\n".encode())
        return whole.hexdigest()
    except OSError as error:
        raise ScriptError(f"the LoRA {path} cannot be read: {error.strerror}") from error


def same(known: Mapping[str, str]) -> None:
    """ScriptError if a LoRA with which a run was begun is gone or was changed."""
    for path, was in known.items():
        if not Path(path).exists():
            raise ScriptError(f"the LoRA {path} with which this video was begun is gone: put it back (SHA-256 {was})")
        if sha256(Path(path)) != was:
            raise ScriptError(
                f"the LoRA {path} was changed since this video was begun: put back the file of SHA-256 {was}, or begin a "
                "new video"
            )


def written(text: str) -> tuple[str, float]:
    """The file and strength of `FILE` or `FILE=0.8`. ScriptError if the strength is no number."""
    path, equals, strength = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(strength)
    except ValueError:
        return text, 1.0  # the file itself has a = in its name
    if not path or not math.isfinite(value):
        raise ScriptError(f"--lora is a file, or a file and a strength as in style.safetensors=0.8, not {text!r}")
    return path, value


def _whole(path: str) -> Path:
    return Path(path).resolve()


def _any(script: Script) -> bool:
    return any(scene.lora for scene in script.scenes)
