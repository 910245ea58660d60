"""Values of requests in the types that options have: a form knows only text, and the API sends seconds as text in JSON too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin

from longtake.core.options import SamplingOptions, declared
from longtake.models.runtime.load_options import LoadOptions
from longtake.pipelines.call.prompts import SKYREELS_NAMES
from longtake.pipelines.settings.request import Length
from longtake.planning.strategies.registry import STRATEGIES
from longtake.server.errors import ApiError
from longtake.server.requests.json_body import parsed

WORDS = {"true": True, "1": True, "false": False, "0": False}
STRUCTURED = {"scenes", "loras", "sigmas", "edits", "video"}  # may come as JSON in one text


def coerced(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with numbers, switches and structures in place of texts. Raises ApiError 400 with the field."""
    return {name: _coerced(name, value) for name, value in values.items() if value is not None}


def _coerced(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in STRUCTURED and value.lstrip()[:1] in ("[", "{"):
        try:
            return parsed(value)
        except ValueError as error:
            raise ApiError(400, "invalid_value", f"{name} is not valid JSON: {error}.", name) from error
    kinds, text = _kinds().get(name, frozenset()), value.strip()
    if "bool" in kinds and text.lower() in WORDS:
        return WORDS[text.lower()]
    if "int" in kinds and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if "float" in kinds and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", text.lower()):
        return float(text)
    return value  # the check of the option says what is wrong with it


@cache
def _kinds() -> dict[str, frozenset[str]]:
    """Return the names of the types that every option takes, by the names of the option."""
    found: dict[str, set[str]] = {"n": {"int"}, "at": {"float"}, "limit": {"int"}}
    for options in (Length, SamplingOptions, LoadOptions):
        for one in declared(options):
            kind = str(one.metadata["kind"] or one.type)
            for name in {one.name, one.metadata["short"]} - {None}:
                found.setdefault(name, set()).update(part.strip() for part in kind.split("|"))
    for strategy in STRATEGIES.values():
        for option in strategy.options().values():
            found.setdefault(option.name, set()).update(_names(option.type))
    for published, own in SKYREELS_NAMES.items():
        found.setdefault(published, set()).update(found[own])
    return {name: frozenset(kinds) for name, kinds in found.items()}


def _names(kind: Any) -> set[str]:
    parts = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is not None else (kind,)
    return {part.__name__ for part in parts if isinstance(part, type)}
