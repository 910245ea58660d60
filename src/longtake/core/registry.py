"""Registries: tables of named things of one kind, to which other packages may add their own.

A line of a table is the thing itself, or "module:object", which is imported when the line is first used. Another package
adds a line with an entry point in its pyproject.toml, or while it runs with `Registry.register`:

    [project.entry-points."longtake.strategies"]
    mirror = "longtake_mirror:STRATEGY"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from longtake.core.errors import InputError

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)  # of a line that another package adds


class Registry(Mapping[str, T], Generic[T]):
    """A table of named things, read like a dict: `registry[name]`, `name in registry`, `registry.items()`.

    noun: what one line is called in errors ("strategy"). kind: the class of a line; a plug-in that gives anything else is
    refused. lines: the built-in lines, in the order in which they are listed. group: the group of entry points that add
    to them ("longtake.strategies"; "" for none). error: the exception of an unknown name. words: how many words a name
    may have ("data prepare" has two).
    """

    def __init__(
        self,
        noun: str,
        kind: type[T] | type[Any] = object,
        lines: Mapping[str, T | str] | None = None,
        group: str = "",
        error: type[InputError] = InputError,
        words: int = 1,
    ):
        self.noun, self.kind, self.group, self.error, self.words = noun, kind, group, error, words
        self._lines: dict[str, T | str | EntryPoint] = dict(lines or {})
        self._discovered = not group

    def register(self, name: str, line: T | str) -> None:
        """Add a line. Raise `error` if the name is taken or no name, or if the line is of another kind."""
        if not isinstance(line, str):
            self._check_kind(f"the {self.noun} {name!r}", line)
        if not self._can_name(name):
            raise self.error(f"{name!r} cannot name a {self.noun}: use letters, digits, - and _, with a letter first")
        if name in self:
            raise self.error(f"there is a {self.noun} called {name!r} already: register yours under another name")
        self._lines[name] = EntryPoint(name, line, self.group) if isinstance(line, str) else line

    def remove(self, name: str) -> None:
        """Take a line away again. Raise `error` if there is none of that name."""
        if name not in self:
            self[name]  # raises
        del self._lines[name]

    def __getitem__(self, name: str) -> T:
        """Return the thing of that name, importing it if needed. Raise `error` with the nearest name if there is none."""
        if not isinstance(name, str):
            raise self.error(f"a {self.noun} is chosen by its name, a text, not {name!r}")
        if name not in self:
            raise self.error(f"there is no {self.noun} called {name!r}: {suggestion(name, self)}")
        line = self._lines[name]
        if isinstance(line, EntryPoint | str):
            line = self._lines[name] = self._imported(name, line)
        return line

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and name not in self._lines:
            self._discover()
        return isinstance(name, str) and name in self._lines

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(self._lines)

    def __len__(self) -> int:
        self._discover()
        return len(self._lines)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the thing of that name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401

    def _discover(self) -> None:
        """Add the lines of installed packages, once, without importing them."""
        if self._discovered:
            return
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self._lines or point.name in found:
                raise self.error(
                    f"{point.value} wants to be the {self.noun} {point.name!r}, but that name is taken: uninstall its "
                    "package, or give it another name"
                )
            found[point.name] = point
        self._lines.update(found)
        self._discovered = True

    def _imported(self, name: str, line: EntryPoint | str) -> Any:
        """Import a line. Raise `error` if a plug-in is broken; a fault in a built-in line keeps its traceback."""
        if isinstance(line, str):
            return load_object(line)
        try:
            found = line.load()
        except Exception as error:
            raise self.error(f"the {self.noun} {name!r} cannot be imported from {line.value}: {error}") from error
        self._check_kind(line.value, found)
        return found

    def _can_name(self, name: Any) -> bool:
        parts = name.split(" ") if isinstance(name, str) else []
        return 0 < len(parts) <= self.words and all(NAME.fullmatch(part) for part in parts)

    def _check_kind(self, name: str, line: Any) -> None:
        if not isinstance(line, self.kind):
            raise self.error(f"{name} is a {type(line).__name__}, not a {self.kind.__name__}")


def load_object(path: str) -> Any:
    """Import "module:object", or a whole module: "module"."""
    module, colon, name = path.partition(":")
    return getattr(import_module(module), name) if colon else import_module(module)


def load_reference(owner: str, path: str, error: type[InputError] = InputError) -> Any:
    """Import the "module" or "module:object" that a registry line refers to.

    owner: the line in words, such as "the metric 'noise'". Raise `error`, which names it, if another package's reference
    cannot be imported; a fault in this package keeps its traceback.
    """
    try:
        return load_object(path)
    except Exception as fault:
        if path.startswith(f"{__name__.partition('.')[0]}."):
            raise
        raise error(
            f"{owner} refers to {path}, which cannot be imported ({type(fault).__name__}: {fault}): mend or uninstall its "
            "package"
        ) from fault


def suggestion(word: str, names: Iterable[str], listed_by: str = "") -> str:
    """Return a hint for a mistyped name: the nearest one, or all that exist, or the command that lists them."""
    known = list(names)
    if close := get_close_matches(str(word), known, 1):
        return f"did you mean {close[0]!r}?"
    return f"`{listed_by}` lists the names" if listed_by else f"choose one of {', '.join(known)}"
