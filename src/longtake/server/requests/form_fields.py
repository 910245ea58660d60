"""The fields of a form as the values that they stand for: `name[]` is a list, `name[key]` an object.

The `openai` package sends every request that may hold a file as a form, and takes nested values apart in this way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from longtake.server.errors import ApiError

DEEPEST = 4  # levels of a value
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})((?:\[[A-Za-z0-9_.-]{0,64}\])*)")
_KEY = re.compile(r"\[([^\]]*)\]")


def nested(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of fields in their order: texts, lists and objects. Raises ApiError 400 for names that contradict.

    A list of objects arrives as one list for each key (`lora[][path]`, `lora[][strength]`), and is put together again if
    the lists are equally long. A name that comes several times is a list.
    """
    root: dict[str, Any] = {}
    for name, value in fields:
        found = _NAME.fullmatch(name)
        keys = _KEY.findall(found[2]) if found else []
        if found is None or len(keys) > DEEPEST:
            raise ApiError(400, "invalid_field", f"The form has a field that is no option: {name[:80]!r}.", name[:80])
        _put(root, [found[1], *keys], value, found[1])
    return {name: _joined(value, name) for name, value in root.items()}


class _Several(list[Any]):
    """Values of one name, which become a list; `name[]` makes one of a single value."""


def _put(node: dict[str, Any], keys: list[str], value: str, name: str) -> None:
    key, rest = keys[0], keys[1:]
    if not rest or rest == [""]:
        if key in node and not isinstance(node[key], _Several | str):
            raise _contradicts(name)
        before = node.get(key)
        if rest or before is not None:
            node[key] = _Several(
                [*(before if isinstance(before, _Several) else [] if before is None else [before]), value]
            )
        else:
            node[key] = value
        return
    below = node.setdefault(key, {})
    if not isinstance(below, dict):
        raise _contradicts(name)
    _put(below, rest, value, name)


def _joined(value: Any, name: str) -> Any:
    """Return a value with its lists of objects put together, and `name[0]`, `name[1]` as a list."""
    if isinstance(value, _Several):
        return list(value)
    if not isinstance(value, dict):
        return value
    found = {key: _joined(below, name) for key, below in value.items()}
    if list(found) == [""]:
        return _objects(found[""], name)
    if "" in found:
        raise _contradicts(name)
    if list(found) == [str(number) for number in range(len(found))]:
        return list(found.values())
    return found


def _objects(columns: Any, name: str) -> list[Any]:
    """Return the objects of which there is one list for each key."""
    if not isinstance(columns, dict):
        return columns if isinstance(columns, list) else [columns]
    lists = {key: column if isinstance(column, list) else [column] for key, column in columns.items()}
    lengths = {len(column) for column in lists.values()}
    if len(lengths) != 1:
        raise ApiError(
            400,
            "torn_list",
            f"The objects of {name} do not have the same keys, and a form takes them apart: send {name} as JSON text in "
            "one field, or the whole request as application/json.",
            name,
        )
    return [dict(zip(lists, row)) for row in zip(*lists.values())]


def _contradicts(name: str) -> ApiError:
    return ApiError(400, "invalid_field", f"The fields named {name} contradict each other: send {name} once.", name)
