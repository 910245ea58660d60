"""The flags of the plans, read from the planners' source: neither help nor a mistyped option has to import torch.

A planner is a frozen dataclass whose docstring says of every field what it does (`name: text`). A new planner or a new
field is a flag by that alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

import longtake
from longtake.plan import PlanError

ROOT = Path(longtake.__file__).parent
IDENTITY = ("single", "beside")  # what makes a strategy that strategy: set by its name, not by a flag
GROUP = Group("Plan options", sort_key=5, help="Default: what suits the model. `longtake plan NAME` draws any of them.")


@dataclass(frozen=True)
class Option:
    """A field of a planner."""

    name: str
    kind: str  # the annotation, as written
    help: str


@dataclass(frozen=True)
class Named:
    """A strategy: the name of its planner, and what it is."""

    planner: str
    about: str


@cache
def strategies() -> Mapping[str, Named]:
    """The registry of plans."""
    table = _assigned(_tree("plans/__init__.py"), "PLANS")
    assert isinstance(table, ast.Dict)
    found = {}
    for key, value in zip(table.keys, table.values):
        assert isinstance(key, ast.Constant) and isinstance(value, ast.Call)
        planner, about = value.args[:2]
        assert isinstance(planner, ast.Name) and isinstance(about, ast.Constant)
        found[str(key.value)] = Named(planner.id, str(about.value))
    return found


@cache
def options(planner: str) -> Mapping[str, Option]:
    """The options of a planner that a user may set."""
    home = next(
        node.module
        for node in _tree("plans/__init__.py").body
        if isinstance(node, ast.ImportFrom) and node.module and any(name.name == planner for name in node.names)
    )
    path = home.removeprefix("longtake.").replace(".", "/") + ".py"
    body = next(node for node in _tree(path).body if isinstance(node, ast.ClassDef) and node.name == planner)
    kinds = {
        line.target.id: ast.unparse(line.annotation)
        for line in body.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    said = _said(ast.get_docstring(body) or "", list(kinds))
    return {name: Option(name, kind, said.get(name, "")) for name, kind in kinds.items() if name not in IDENTITY}


def known(name: str, given: Mapping[str, Any]) -> None:
    """PlanError unless there is a plan of that name with these options."""
    if name not in strategies():
        raise PlanError(f"no plan is called {name!r}: {suggestion(name, strategies())}")
    own = options(strategies()[name].planner)
    for option in given:
        if option not in own:
            fit = [other for other, named in strategies().items() if option in options(named.planner)]
            raise PlanError(f"plan {name} has no --{option} (it belongs to {', '.join(fit)}): it has {_flags(own)}")


def suggestion(word: str, names: Any) -> str:
    """The name that was probably meant, or all that there are."""
    close = get_close_matches(word, list(names), 1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"


def given(chosen: Any) -> dict[str, Any]:
    """The options that the user set."""
    return {name: value for name, value in vars(chosen).items() if value is not None}


# ---------------------------------------------------------------- flags
def _make() -> type:
    """A dataclass with every option of every planner, None where it is not given, for cyclopts to flatten."""
    helps: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for planner in dict.fromkeys(named.planner for named in strategies().values()):
        for option in options(planner).values():
            kinds.setdefault(option.name, option.kind)
            texts = helps.setdefault(option.name, [])
            if option.help not in texts:
                texts.append(option.help)
    columns = []
    for name, kind in kinds.items():
        parameter = Parameter(help=" / ".join(helps[name]), group=GROUP, show_default=False)
        columns.append((name, Annotated[_type(kind), parameter], field(default=None)))
    made = make_dataclass("PlanOptions", columns, frozen=True)
    made.__module__ = __name__  # cyclopts takes a class of the module `types` for one of Python's own
    return made


def _type(kind: str) -> Any:
    """An annotation, as a type that may be None."""
    if kind == "Grid":
        grids = _assigned(_tree("noise.py"), "Grid")
        kind = ast.unparse(grids)
    plain = {"int": int, "float": float, "bool": bool, "str": str}
    if kind.startswith("Literal["):
        choices = ast.literal_eval(kind.removeprefix("Literal"))
        return Literal[tuple(choices)] | None
    return plain[kind.removesuffix(" | None")] | None


def _said(docstring: str, names: list[str]) -> dict[str, str]:
    """`name: text` entries of a docstring, each as one line."""
    marks = [m for m in re.finditer(r"^(\w+): ", docstring, re.M) if m.group(1) in names]
    ends = [m.start() for m in marks[1:]] + [len(docstring)]
    return {m.group(1): " ".join(docstring[m.end() : end].split()) for m, end in zip(marks, ends)}


def _flags(own: Mapping[str, Option]) -> str:
    return ", ".join(f"--{name}" for name in own)


@cache
def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def _assigned(tree: ast.Module, name: str) -> ast.expr:
    """The value given to a name at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert node.value is not None
            return node.value
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    raise LookupError(name)


PlanOptions = _make()
