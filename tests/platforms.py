"""What the standard library has on each operating system, read from the stubs that mypy brings along."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

SYSTEMS = ("linux", "darwin", "win32")


def stub(module: str) -> Path | None:
    """Return the stub of a module of the standard library, None if there is none."""
    spec = find_spec("mypy")
    assert spec is not None and spec.origin is not None
    base = Path(spec.origin).parent / "typeshed" / "stdlib" / Path(*module.split("."))
    return next((path for path in (base.with_suffix(".pyi"), base / "__init__.pyi") if path.exists()), None)


@cache
def names(module: str, system: str) -> frozenset[str]:
    """Return the public names that a module of the standard library has on a system."""
    path = stub(module)
    return (
        frozenset()
        if path is None
        else frozenset(
            name
            for name in _defined(ast.parse(path.read_text(encoding="utf-8")).body, system)
            if not name.startswith("_")
        )
    )


def is_missing(module: str, system: str) -> bool:
    """Whether a module of the standard library does not exist on a system."""
    return bool(any(names(module, each) for each in SYSTEMS) and not names(module, system))


def elsewhere(module: str, system: str) -> frozenset[str]:
    """Return the names that a module has on another system, but not on this one."""
    return frozenset().union(*(names(module, each) for each in SYSTEMS)) - names(module, system)


def _defined(body: list[ast.stmt], system: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.If):
            holds = _holds(node.test, system)
            if holds is not False:
                yield from _defined(node.body, system)
            if holds is not True:
                yield from _defined(node.orelse, system)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name) and each.id != "__all__")
        elif isinstance(node, ast.ImportFrom):  # `from x import y as y` exports y again
            yield from (each.asname for each in node.names if each.asname == each.name)
            if node.names[0].name == "*" and node.module:
                yield from names(node.module, system)


def _holds(test: ast.expr, system: str) -> bool | None:
    """Whether a condition on the system and the version of Python holds; None for another condition."""
    facts = {"sys": SimpleNamespace(platform=system, version_info=tuple(sys.version_info))}
    try:
        return bool(eval(compile(ast.Expression(test), "stub", "eval"), facts))
    except NameError:
        return None
