"""Configs in groups: dataclasses whose fields are grouped in code, while files and users have one flat table of keys.

    @dataclass(frozen=True)
    class Config:
        steps: int
        saving: SavingConfig = group(SavingConfig)      # its keys stand beside `steps` in the table

A field of a group may have another name in the table, see `keyed`. A config without groups is read and written as it is.
What a docstring says of a field, as `name: text.` or `name, other: text.`, is what help and docs show of it (`field_docs`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

GROUP, KEY = "group", "key"
# an entry of a docstring begins a line, or follows a sentence
ENTRY = re.compile(r"(?:^|(?<=[.;)] ))(\w+(?:, \w+)*): ", re.M)


def group(kind: type) -> Any:
    """Declare a field that holds a dataclass whose keys stand in the table of the class that has the field."""
    return field(default_factory=kind, metadata={GROUP: kind})


def keyed(key: str, default: Any) -> Any:
    """Declare a field that has another name in the table."""
    return field(default=default, metadata={KEY: key})


class Place(NamedTuple):
    """Where a key of the table belongs. path: names of fields, from the config inwards. hint: the type of its value."""

    path: tuple[str, ...]
    hint: Any
    owner: type
    field: Field[Any]

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.field.default is MISSING and self.field.default_factory is MISSING


def places(kind: Any) -> Mapping[str, Place]:
    """Return every key of the table of a dataclass, those of its groups included, in the order of the fields."""
    return _cached_places(kind)


@cache
def _cached_places(kind: Any) -> Mapping[str, Place]:
    return dict(_places(kind))


def _places(kind: Any) -> Iterator[tuple[str, Place]]:
    hints = get_type_hints(kind)
    for one in fields(kind):
        inner = one.metadata.get(GROUP)
        if inner is None:
            yield one.metadata.get(KEY, one.name), Place((one.name,), hints[one.name], kind, one)
        else:
            yield from ((key, place._replace(path=(one.name, *place.path))) for key, place in _places(inner))


def from_flat(kind: Any, table: Mapping[str, Any]) -> Any:
    """Make a dataclass of a flat table of its keys. TypeError or KeyError for a key that is missing or unknown."""
    nested: dict[str, Any] = {}
    for key, value in table.items():
        *groups, name = places(kind)[key].path
        inside = nested
        for one in groups:
            inside = inside.setdefault(one, {})
        inside[name] = value
    return _made(kind, nested)


def _made(kind: Any, nested: Mapping[str, Any]) -> Any:
    groups = {one.name: one.metadata[GROUP] for one in fields(kind) if GROUP in one.metadata}
    return kind(**{name: _made(groups[name], value) if name in groups else value for name, value in nested.items()})


def to_flat(config: Any) -> dict[str, Any]:
    """Return the flat table of a dataclass; dataclasses in it that are not groups become tables, as `asdict` makes them."""
    return dict(_flat(type(config), asdict(config)))


def _flat(kind: Any, nested: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for one in fields(kind):
        if GROUP in one.metadata:
            yield from _flat(one.metadata[GROUP], nested[one.name])
        else:
            yield one.metadata.get(KEY, one.name), nested[one.name]


# ---------------------------------------------------------------- what docstrings say
def entries(docstring: str, names: Sequence[str]) -> dict[str, str]:
    """Return the entries of a docstring on some names, each as one line."""
    marks = [mark for mark in ENTRY.finditer(docstring) if mark[1].split(", ")[0] in names]
    ends = [mark.start() for mark in marks[1:]] + [len(docstring)]
    texts: dict[str, str] = {}
    for mark, end in zip(marks, ends):
        paragraph = docstring[mark.end() : end].split("\n\n")[0]
        texts |= {name: " ".join(paragraph.split()).rstrip(";") for name in mark[1].split(", ")}
    return texts


@cache
def field_docs(config: type) -> Mapping[str, str]:
    """Return what the docstrings of a dataclass and of its bases say of every field: {name: text}."""
    names, texts = [field.name for field in fields(config)], dict[str, str]()  # type: ignore[arg-type]
    for owner in reversed([each for each in config.__mro__ if is_dataclass(each)]):
        texts |= entries(inspect.cleandoc(owner.__doc__ or ""), names)
    return texts


def summary(config: Any) -> str:
    """Return the first paragraph of a docstring, as one line."""
    return " ".join((inspect.getdoc(config) or "").split("\n\n")[0].split())
