"""Tables of a TOML config, read strictly into dataclasses and compared when a run resumes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from longtake.core.errors import ConfigError
from longtake.core.flat_config import from_flat, places
from longtake.core.other_names import key_here
from longtake.core.units import PixelSize

T = TypeVar("T")
_KINDS: dict[Any, str] = {
    int: "a whole number", float: "a finite number", str: "a text in quotes", bool: "true or false",
    PixelSize: 'WIDTHxHEIGHT in quotes, such as "832x480"',
}  # fmt: skip


def read_table(kind: type[T], table: Mapping[str, Any], name: str) -> T:
    """Read the table [name] of a config into the dataclass `kind`; a field that is itself a dataclass reads a sub-table,
    unless it is a `group`.

    ConfigError names a key that `kind` does not have (with the nearest key that it has), a key of the wrong type, or a
    missing key. Errors of `kind` itself are prefixed with the table's name.
    """
    known = places(kind)
    refuse_unknown(table, known, f"[{name}]")
    values = {}
    for key, value in table.items():
        if (inner := _dataclass_in(known[key].hint)) and isinstance(value, Mapping):
            value = read_table(inner, value, f"{name}.{key}")
        elif not _fits(value, known[key].hint):
            raise ConfigError(f"[{name}] {key} is {value!r}; it should be {in_words(known[key].hint)}")
        values[key] = value
    for key, place in known.items():
        if place.required and key not in table:
            raise ConfigError(f"[{name}] has no {key}, and there is no default: set it")
    try:
        made: T = from_flat(kind, values)
        return made
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"[{name}] {error}") from error


def refuse_unknown(
    given: Iterable[str], known: Iterable[str], where: str, other: Mapping[str, Collection[str]] | None = None
) -> None:
    """Raise ConfigError if a given key is not a known one, with the key that was meant: another trainer's, or the nearest.

    other: keys of other tables, by the name of the table.
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r}: {_meant(key, known, other or {})}")


def _meant(key: str, known: Sequence[str], other: Mapping[str, Collection[str]]) -> str:
    """Return the hint for an unknown key."""
    if here := key_here(key, known):
        return f"it is {here} here"
    for table, keys in other.items():
        if here := key if key in keys else key_here(key, keys):
            return f"{here} is a key of the table [{table}]"
    near = get_close_matches(key, known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(known)}"


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Callable[[str], bool] = lambda key: False
) -> list[str]:
    """List the differences between two JSON-serialisable tables, as `a.b was 1, now 2`.

    free: says whether a dotted key may differ.
    """
    before, after = _flat(old), _flat(new)
    return [
        f"{key} was {before.get(key, 'not set')}, now {after.get(key, 'not set')}"
        for key in sorted(before.keys() | after.keys())
        if not free(key) and before.get(key) != after.get(key)
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested tables to {dotted key: JSON}."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.dumps(value)
    return found


def _dataclass_in(hint: Any) -> type | None:
    """Return the dataclass that a type hint is or may be."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and is_dataclass(option)), None)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from TOML or JSON matches a type hint; kinds of hints that are not checked here match."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is Sequence:
        (part,) = get_args(hint)
        if get_origin(part) is tuple:
            return True  # the dataclass checks such pairs itself
        return isinstance(value, list | tuple) and all(_fits(each, part) for each in value)
    if get_origin(hint) is Mapping or is_dataclass(hint):
        return isinstance(value, Mapping) or (isinstance(hint, type) and isinstance(value, hint))
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max  # neither NaN nor infinite
    if hint is PixelSize:
        return isinstance(value, str)
    if hint in (int, str, bool, type(None)):
        return isinstance(value, hint)
    return True


def in_words(hint: Any) -> str:
    """Describe a type hint in words."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(in_words(option) for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is Literal:
        return " or ".join(json.dumps(option) for option in get_args(hint))
    if get_origin(hint) is Sequence:
        return f"a list, each {in_words(get_args(hint)[0])}"
    if get_origin(hint) is Mapping or is_dataclass(hint):
        return "a table"
    return _KINDS.get(hint, str(hint))
