"""The config of a training run: tables read strictly into dataclasses, and compared when a run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be followed; the message names the key and says what to do."""


def read_table(kind: type[T], table: Mapping[str, Any], name: str) -> T:
    """The dataclass `kind` made from the table [name] of a config.

    ConfigError names a key that `kind` does not have (and the nearest that it has), one of the wrong type, or one that
    is missing; errors of `kind` itself are prefixed with the table's name.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    refuse_unknown(table, known, f"[{name}]")
    hints = get_type_hints(kind)
    for key, value in table.items():
        if not _fits(value, hints[key]):
            raise ConfigError(f"[{name}] {key} is {value!r}; it should be {_words(hints[key])}")
    for key, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and key not in table:
            raise ConfigError(f"[{name}] has no {key}, and there is no default: give one")
    try:
        return kind(**table)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"[{name}] {error}") from error


def refuse_unknown(given: Iterable[str], known: Iterable[str], place: str) -> None:
    """ConfigError if a given key is not a known one; it names the nearest known key."""
    known = list(known)
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"{place} has no key {key!r}: {hint}")


def changes(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Callable[[str], bool] = lambda key: False
) -> list[str]:
    """What differs between two json-able tables, as `a.b was 1, now 2`. free: whether a dotted key may differ."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key} was {before.get(key, 'not set')}, now {after.get(key, 'not set')}"
        for key in sorted(before.keys() | after.keys())
        if not free(key) and before.get(key) != after.get(key)
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{dotted key: json} of nested tables."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = json.dumps(value)
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value read from TOML or JSON may stand where the hint says; what is not checked here fits."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is Sequence:
        (part,) = get_args(hint)
        if get_origin(part) is tuple:
            return True  # what is made of such pairs says itself what they are
        return isinstance(value, list | tuple) and all(_fits(each, part) for each in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, Mapping)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    if hint in (int, str, bool, type(None)):
        return isinstance(value, hint)
    return True


def _words(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(json.dumps(option) for option in get_args(hint))
    if get_origin(hint) is Sequence:
        return f"a list, each {_words(get_args(hint)[0])}"
    if get_origin(hint) is Mapping:
        return "a table"
    return {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}.get(
        hint, str(hint)
    )
