"""The LoRA files of a run: recorded by whole path and SHA-256, and compared when the run is resumed."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from longtake.core.errors import ScriptError
from longtake.core.files import path_of, problem_of
from longtake.planning.script import Scene, Script, in_folder, network_of


def placed(script: Script, everywhere: Sequence[tuple[str, float]] = ()) -> Script:
    """Return the script with whole LoRA paths, and with those of `everywhere` in every scene that does not name them.

    Relative paths start at the working folder; those of a .toml file started at its own folder when it was read.
    ScriptError if one list names a file twice, however it spells its path.
    """

    def scene(one: Scene) -> Scene:
        own, also = (_by_path(some) for some in (one.lora, everywhere))
        return replace(one, lora=tuple((also | own).items()))

    return replace(script, scenes=tuple(map(scene, script.scenes))) if everywhere or _any(script) else script


def _by_path(loras: Sequence[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, strength in loras:
        path = in_folder(name, _whole)
        if path in found:
            raise ScriptError(f"the LoRA {name} is named twice: name it once, with the sum of its strengths")
        found[path] = strength
    return found


def hashes(script: Script) -> dict[str, str]:
    """Return {path: SHA-256} of every LoRA file of a script. ScriptError names a missing file."""
    files = dict.fromkeys(network_of(name)[1] for scene in script.scenes for name, _ in scene.lora)
    return {file: sha256(Path(file)) for file in files}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files. ScriptError if it cannot be read."""
    if not path.is_dir() and (problem := problem_of(path)):
        raise ScriptError(f"the LoRA {path} cannot be read: {problem}")
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


def check_unchanged(known: Mapping[str, str]) -> None:
    """Raise ScriptError if a LoRA file with which a run started is gone or was changed."""
    for path, was in known.items():
        if not Path(path).exists():
            raise ScriptError(f"the LoRA {path} of this run is gone: put it back (SHA-256 {was})")
        if sha256(Path(path)) != was:
            raise ScriptError(
                f"the LoRA {path} was changed since this run started: put back the file of SHA-256 {was}, or start a "
                "new run"
            )


def strength_of(text: str) -> tuple[str, float]:
    """Return the file and strength of `FILE` or `FILE=0.8`. ScriptError if the strength is not finite."""
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
    return Path(os.path.realpath(path_of("a LoRA", path)))  # Path.resolve raises for a link to itself


def _any(script: Script) -> bool:
    return any(scene.lora for scene in script.scenes)
