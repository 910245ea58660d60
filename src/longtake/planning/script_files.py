"""Script files: .txt with a prompt per line, or .toml with [[scene]] tables.

A .toml file may also name the `image` that is the video's first frame, and `abrupt`. A path inside it is relative to the
folder of the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError, ScriptError
from longtake.core.files import read_text, read_toml
from longtake.core.registry import suggestion
from longtake.planning.script import MOST_SECONDS, Scene, Script, in_folder

MOST_BYTES = 1 << 20  # a script is text; anything larger is a mistake
SCENE_KEYS = {
    "prompt": "what the scene shows; required",
    "seconds": "its length (default: a share of the time that the other scenes leave)",
    "at": "the second of the video at which it begins, instead of the length of the scene before it",
    "cut": 'true starts a new shot without context frames; "anchor" starts it with the first frame of the shot before, and '
    '"resample" with that frame lightly denoised again under the new prompt (default: false, the shot continues)',
    "lora": 'file and strength of each LoRA, such as { "star.safetensors" = 0.8 }',
}  # of a table [[scene]]
SCRIPT_KEYS = {
    "scene": "the [[scene]] tables, in their order",
    "image": "path of the image that is the first frame",
    "abrupt": "two prompts whose embeddings are further apart than this, from 0 (equal) to 2, start a new shot that is "
    "resampled from the first frame of the shot before",
}  # of the whole file
EXAMPLE = """[[scene]]
prompt = "a large red ball drifts to the right over the sea"
seconds = 10

[[scene]]
prompt = "a large yellow star bounces in the desert"
cut = true
"""
BLANK = " \t\ufeff"  # around a prompt; the last is the byte order mark of a file that was appended to another


@dataclass(frozen=True)
class ScriptFile:
    """The contents of a script file. abrupt: see `Script`. image: path of the first frame."""

    scenes: list[Scene]
    abrupt: float | None = None
    image: Path | None = None


def load_script(
    source: str | Path | Script | Sequence[Scene], fps: float, seconds: float | None = None, endless: bool = False
) -> Script:
    """Make a script from a file, or from anything that `Script.of` takes. Raise ScriptError for what cannot be read."""
    if not isinstance(source, Path):
        return Script.of(source, fps, seconds, endless)
    file = read_script_file(source)
    return replace(Script.of(file.scenes, fps, seconds, endless), abrupt=file.abrupt)


def first_image(source: object) -> Path | None:
    """Return the path of the image that a .toml script names as first frame; None for any other source."""
    if not isinstance(source, Path) or source.suffix != ".toml":
        return None
    image = _table(source).get("image")
    return None if image is None else source.parent / image


def read_script_file(path: Path) -> ScriptFile:
    """Read a script file. Raise ScriptError, which says what is wrong and where."""
    if path.suffix not in (".txt", ".toml"):
        raise ScriptError(f"{path}: a script is a .txt file (a prompt per line) or a .toml file")
    if path.suffix == ".txt":
        lines = (line.strip(BLANK) for line in _text(path).splitlines())
        return ScriptFile([Scene(line) for line in lines if line and not line.startswith("#")])
    table = _table(path)
    image, abrupt = table.get("image"), table.get("abrupt")
    return ScriptFile(
        _scenes(table, path),
        None if abrupt is None else _abrupt(abrupt, path),
        None if image is None else path.parent / image,
    )


def _text(path: Path) -> str:
    try:
        return read_text(path, MOST_BYTES)
    except InputError as error:
        raise ScriptError(f"cannot read the script: {error}") from error


def _table(path: Path) -> dict[str, Any]:
    """Parse the file, and check the keys of the whole."""
    try:
        table = read_toml(path, MOST_BYTES)
    except InputError as error:
        raise ScriptError(f"cannot read the script: {error}") from error
    _check_keys(table, set(SCRIPT_KEYS), path, "the script")
    if not isinstance(table.get("image", ""), str):
        raise ScriptError(f"{path}: image is the path of an image in quotes, not {table['image']!r}")
    return table


def _scenes(table: dict[str, Any], path: Path) -> list[Scene]:
    """Read the [[scene]] tables. `at` gives a scene's start, and so the length of the one before it."""
    rows = table.get("scene", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ScriptError(f"{path}: scenes are written as [[scene]] tables")
    scenes: list[Scene] = []
    end = 0.0  # of the scenes so far, in seconds; NaN if the last of them has no length yet
    for number, row in enumerate(rows, 1):
        where = f"scene {number}"
        _check_keys(row, set(SCENE_KEYS), path, where)
        if "prompt" not in row:
            raise ScriptError(f"{path}: {where} has no prompt")
        at = row.pop("at", None)
        if at is not None:
            scenes, end = _starting_at(scenes, end, at, path, where)
        try:
            scene = Scene(**row)
            loras = tuple((in_folder(name, path.parent.joinpath), s) for name, s in scene.lora)
            scenes.append(replace(scene, lora=loras))
        except ScriptError as error:
            raise ScriptError(f"{path}: {where}: {error}") from error
        end = math.nan if scenes[-1].seconds is None else end + scenes[-1].seconds
    return scenes


def _starting_at(scenes: list[Scene], end: float, at: Any, path: Path, where: str) -> tuple[list[Scene], float]:
    """Return the scenes, of which the last one now ends at `at`, and that end."""
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at <= MOST_SECONDS:
        raise ScriptError(f"{path}: {where}: at must be a second of the video, not {at!r}")
    if not scenes:
        if at != 0:
            raise ScriptError(f"{path}: the first scene begins at 0, not at {at:g}")
        return scenes, 0.0
    before = scenes[-1]
    start = sum(s.seconds or 0.0 for s in scenes[:-1])
    if at <= start or (before.seconds is not None and abs(end - at) > 1e-9):
        reason = (
            f"which is not after the scene before it ({start:g} s): times must go forward"
            if math.isnan(end)
            else f"but the scene before it ends at {max(end, start):g} s: times must go forward and fit"
        )
        raise ScriptError(f"{path}: {where} begins at {at:g} s, {reason}")
    return [*scenes[:-1], replace(before, seconds=at - start)], float(at)


def _abrupt(given: Any, path: Path) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 2:
        raise ScriptError(f"{path}: abrupt is a distance of prompts from 0 (equal) to 2, not {given!r}")
    return float(given)


def _check_keys(row: dict[str, Any], known: set[str], path: Path, where: str) -> None:
    for key in row:
        if key not in known:
            raise ScriptError(f"{path}: {where} has an unknown key {key!r}: {suggestion(key, sorted(known))}")
