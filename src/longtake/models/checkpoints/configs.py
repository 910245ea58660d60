"""The config.json of a part as a dataclass: unknown keys, values of another type and impossible sizes are refused."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from longtake.core.flat_config import from_flat, places
from longtake.models.checkpoints.disk import WeightsError, brief, read_json

Config = TypeVar("Config")
MOST = 10**7  # of a width or another size: no network is larger, and making one of 1e9 layers would never end
MOST_LAYERS = 500  # in one list of layers or blocks
MOST_ENTRIES = {int: 16, bool: 16, str: 16, float: 4096}  # of a list


def configure(kind: Callable[..., Config], path: Path | str, unused: Mapping[str, Any] | None = None) -> Config:
    """Read the config.json of a folder as the dataclass `kind`.

    Keys that start with _ or are null are ignored, and so are keys of `unused` with the value stated there. Raises
    WeightsError for any other unknown key, since it would change what the network computes, and for a value of another
    type or size than a network can have.
    """
    file = Path(path) / "config.json"
    stated = read_json(file)
    check_quantisation(stated, file)
    known = places(kind)
    values = {key: value for key, value in stated.items() if not key.startswith("_")}
    neutral = {None: None} | dict(unused or {})
    unknown = [f"{k} = {v}" for k, v in values.items() if k not in known and v is not None and neutral.get(k) != v]
    if unknown:
        raise WeightsError(f"{file} has settings that this version does not know: {brief(unknown)}")
    return as_config(kind, values, file)


def check_quantisation(stated: Mapping[str, Any], file: Path) -> None:
    """Raise WeightsError if a config states that the weights are quantised, with the method."""
    about = stated.get("quantization_config")
    if about:
        method = about.get("quant_method", "unnamed") if isinstance(about, dict) else about
        raise WeightsError(
            f"{file} states weights quantised by {method}, which is not read: use the bf16, the scaled fp8 or the GGUF version"
        )


def as_config(kind: Callable[..., Config], stated: Mapping[str, Any], file: object) -> Config:
    """Make the dataclass `kind` from the values that it has fields for. Raises WeightsError that names file and key."""
    known = places(kind)
    values = {key: value for key, value in stated.items() if key in known}
    for key, value in values.items():
        if fault := _fault(key, value, known[key].hint):
            raise WeightsError(f"{file}: {key} is {_short(value)}, but {fault}")
    try:
        made: Config = from_flat(kind, values)
        return made
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise WeightsError(f"{file}: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fault(key: str, value: Any, kind: Any) -> str:
    """Return what a value must be, as the end of a sentence, or "" if it is that."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        faults = [_fault(key, value, one) for one in get_args(kind)]
        return "" if "" in faults else next((fault for fault in faults if "null" not in fault), faults[0])
    if origin is Literal:
        return "" if value in get_args(kind) else f"must be one of {', '.join(map(str, get_args(kind)))}"
    if origin is tuple:
        return _list_fault(key, value, get_args(kind)[0])
    if kind in _PLAIN:
        return _plain_fault(key, value, kind)
    return ""


def _list_fault(key: str, value: Any, kind: Any) -> str:
    if not isinstance(value, list | tuple):
        return "must be a list"
    if len(value) > MOST_ENTRIES.get(kind, 16):
        return f"a list here has at most {MOST_ENTRIES.get(kind, 16)} entries"
    return next((fault for fault in (_fault(key, one, kind) for one in value) if fault), "")


_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def _plain_fault(key: str, value: Any, kind: type) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number if kind is float else isinstance(value, kind) and (kind is not int or number)
    if not fits:
        return f"must be {_PLAIN[kind]}"
    if not number:
        return ""
    most = MOST_LAYERS if "layers" in key or "blocks" in key else MOST
    if not math.isfinite(value) or not -MOST <= value <= most or (kind is int and value < 0):
        return f"must be a number from 0 to {most}" if kind is int else "must be a finite number of usual size"
    return ""
