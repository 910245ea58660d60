"""Flags made of options dataclasses: a field that `longtake.core.options.option` declares is a flag by that alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from longtake.cli.completers import BY_FIELD
from longtake.core.errors import InputError
from longtake.core.options import GROUPS, declared

HEADINGS = {name: Group(name, sort_key=i + 1) for i, name in enumerate(GROUPS)}
KINDS: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "Path": Path, "tuple[str, ...]": tuple[str, ...],
    "int or random": int | Literal["random"],
}  # fmt: skip


def flags_of(*options: type, without: Iterable[str] = (), hidden: Mapping[str, Any] | None = None) -> Any:
    """Return the type of a parameter whose fields are the flags of these options classes, each None unless it is given.

    A field stands for those of its name in later classes. without: fields that are no flags of the command. hidden: further
    flags, by name, that its help does not list.
    """
    found: dict[str, Field[Any]] = {}
    for one in (one for cls in options for one in declared(cls) if one.name not in set(without)):
        found.setdefault(one.name, one)
    columns = [(one.name, _flag(one), field(default=None)) for one in found.values()]
    columns += [(name, kind, field(default=None)) for name, kind in (hidden or {}).items()]
    made = make_dataclass("Flags", columns, frozen=True)
    made.__module__ = __name__  # cyclopts takes a class of the module `types` for one of Python's own
    return Annotated[made | None, Parameter(name="*")]  # None: pydantic, once imported, checks the default as well


def explicit_options(flags: Any) -> dict[str, Any]:
    """Return the options that the user set."""
    return {} if flags is None else {name: value for name, value in vars(flags).items() if value is not None}


def readable(words: str | None) -> str | None:
    """Return text of the command line as the user typed it, also where Python's locale could not decode it.

    InputError if it is not UTF-8, which no model could read.
    """
    if words is None or not any(0xDC80 <= ord(character) <= 0xDCFF for character in words):
        return words
    try:
        return os.fsencode(words).decode()
    except UnicodeDecodeError:
        shown = words.encode("utf-8", "replace").decode()
        raise InputError(f"the text {shown!r} is not UTF-8: set the terminal to UTF-8, or put it into a file") from None


def parameter(help: str, group: str, *names: str, off: str = "", show: bool = True) -> Parameter:
    """Return the parameter of a flag: its help as it stands, without a default. off: the flag that turns a switch off."""
    return Parameter(
        name=names or None, help=help, group=HEADINGS[group], negative=off or (), show_default=False, show=show
    )


def _flag(one: Field[Any]) -> Any:
    about, text = one.metadata, one.metadata["help"]
    names = [one.name.replace("_", "-"), about["short"]]
    flags = [("-" if len(name) == 1 else "--") + name for name in names if name]
    if one.default not in (None, False, 0.0, ()) and "default:" not in text:
        text = f"{text.removesuffix('.')} (default: {one.default})."
    kind = (
        Literal[about["choices"]] if about["choices"] else KINDS[about["kind"] or str(one.type).removesuffix(" | None")]
    )
    shown = parameter(text, about["group"], *flags, show=about["shown"])
    return Annotated[kind | None, shown, BY_FIELD.get(one.name, Parameter())]
