"""Files that users name: regular files only, and text with or without a byte order mark."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from longtake.core.errors import InputError

MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

FILE_SUFFIXES = (
    ".safetensors",
    ".gguf",
    ".toml",
    ".sft",
    ".pth",
    ".pt",
    ".ckpt",
    ".bin",
)  # names of these ends are files


def path_of(what: str, path: Any) -> Path:
    """Return a path that a caller gave. InputError if it is none."""
    if not isinstance(path, str | Path) or "\0" in str(path):
        raise InputError(f"{what} must be a path, as a text or a Path, not {path!r}")
    return Path(path)


def problem_of(path: Path) -> str:
    """Return why a path cannot be read as a file: there is none, or it is a folder, a pipe or a device; "" if it can.

    Nothing is opened, because opening a pipe waits for ever.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    if stat.S_ISREG(mode):
        return ""
    return (
        "it is a folder, not a file"
        if stat.S_ISDIR(mode)
        else "it is a pipe or a device, not a file: save it to a file"
    )


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """Decode text; a byte order mark is left out and overrides `encoding`. UnicodeDecodeError, LookupError as usual."""
    return data.decode(next((name for mark, name in MARKS if data.startswith(mark)), encoding))


def read_text(path: Path, most: int = 1 << 26) -> str:
    """Read a UTF-8 text file with or without a byte order mark. InputError if it is none, or has over `most` bytes."""
    if problem := problem_of(path):
        raise InputError(f"{path} cannot be read: {problem}")
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path} has more than {most:,} bytes, so it is not the text that is expected here")
        return decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error


def json_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Raise ValueError for anything else."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__} instead of an object")
    return found


def read_toml(path: Path, most: int = 1 << 20) -> dict[str, Any]:
    """Read a TOML file as `read_text` does. InputError says what is wrong with it."""
    text = read_text(path, most)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply: write flat tables") from error
    except ValueError as error:  # also a number of too many digits
        raise InputError(f"{path} is not valid TOML: {error}") from error


def missing_path(name: str | Path) -> str:
    """Return the sentence for a path at which nothing is: where it was looked for, and the nearest name that is there."""
    path = Path(name)
    if path.is_symlink():
        return f"{name} is a link to a place where nothing is: mend the link, or give the path itself"
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    kind = "file" if path.suffix in FILE_SUFFIXES else "folder"
    looked = f"there is no {kind} {name} (looked in {Path(os.path.abspath(path)).parent})"
    if parent != path.parent:
        return f"{looked}: there is no {parent / path.relative_to(parent).parts[0]}"
    near = get_close_matches(path.name, [each.name for each in parent.iterdir()], 1)
    return f"{looked}: did you mean {parent / near[0]}?" if near else f"{looked}: check the path"
