"""Every key of a training config, with its default, its type and its meaning, from the dataclasses that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from typing import Any, Literal, get_args, get_origin

from longtake.core.flat_config import Place, field_docs, places, summary
from longtake.train.loop_config import LoopConfig
from longtake.train.toml_config import in_words


@dataclass(frozen=True)
class ConfigKey:
    """A key of a table. default: as TOML writes it, "" for none. required: there is no default. kind: of its value, in words.
    says_kind: the kind says more than the default.
    """

    name: str
    default: str
    required: bool
    kind: str
    says_kind: bool
    meaning: str


@dataclass(frozen=True)
class KeyGroup:
    """Keys of one config class. table: in which they stand. about: the first sentence on the class."""

    table: str
    about: str
    keys: tuple[ConfigKey, ...]


def key_groups(name: str, config: type) -> Iterator[KeyGroup]:
    """Yield the keys of the table `name` that a config class reads, class by class, then those of the tables in it."""
    by_owner: dict[type, list[ConfigKey]] = {}
    for key, place in places(config).items():
        owner = place.owner if len(place.path) > 1 else config
        by_owner.setdefault(owner, []).append(_config_key(key, place))
    for owner, keys in by_owner.items():
        yield KeyGroup(name, summary(owner), tuple(keys))
    for key, place in places(config).items():
        for inner in tables_in(place):
            yield from key_groups(f"{name}.{key}", inner)


def tables_in(place: Place) -> list[type]:
    """Return the dataclasses of the table that is the value of a key."""
    options = (place.hint, *get_args(place.hint))
    return [each for each in options if isinstance(each, type) and is_dataclass(each)]


def keys_of_training(recipe: str, config: type) -> Iterator[KeyGroup]:
    """Yield the keys of a recipe's whole config: those of its own tables, and those of [loop]."""
    yield from key_groups(recipe, config)
    yield from key_groups("loop", LoopConfig)


def _config_key(name: str, place: Place) -> ConfigKey:
    text = field_docs(place.owner).get(place.field.name, "")
    says_kind = get_origin(place.hint) is Literal or place.required or not _default(place).strip('"[]')
    return ConfigKey(name, _default(place), place.required, in_words(place.hint), says_kind, text)


def _default(place: Place) -> str:
    field = place.field
    if field.default is not MISSING:
        return toml(field.default)
    return toml(field.default_factory()) if field.default_factory is not MISSING else ""


def toml(value: Any) -> str:
    """Write a value as TOML has it; "" for none and for a table."""
    if value is None or is_dataclass(value) or isinstance(value, Mapping):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else f'"{value}"' if isinstance(value, str) else str(value)
