"""The schema number of run directories, and how the tables of JSON keys are checked.

Each file format has one table of its keys: `manifest.MANIFEST_KEYS`, `journal.JOURNAL_LINES`,
`snapshots.SNAPSHOT_KEYS`, `edit_files.REQUEST_KEYS`, and `runs.event_schema.EVENTS` for the events of `--format json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.runs.files.errors import RunError

RUN_SCHEMA = 2  # of every file in a run directory; 1 was longtake 0.1


class SchemaError(ValueError):
    """A JSON object whose keys or types differ from its table."""


@dataclass(frozen=True)
class Key:
    """A key of a JSON object. types: of its value. optional: whether the key may be absent."""

    types: tuple[type, ...]
    meaning: str
    optional: bool = False


Keys = Mapping[str, Key]


def key(meaning: str, *types: type | None, optional: bool = False) -> Key:
    """Describe a key; None among the types allows null."""
    return Key(tuple(type(None) if one is None else one for one in types), meaning, optional)


def check_keys(value: Mapping[str, Any], keys: Keys, name: str) -> None:
    """Raise SchemaError if an object has a key too many, a key too few, or a value of another type.

    name: of the object, for the message.
    """
    if unknown := [found for found in value if found not in keys]:
        raise SchemaError(f"{name} has no key {unknown[0]!r}")
    for required, kind in keys.items():
        if required not in value:
            if kind.optional:
                continue
            raise SchemaError(f"{name} lacks the key {required!r}")
        found = value[required]
        types = (*kind.types, int) if float in kind.types else kind.types
        if not isinstance(found, types) or (isinstance(found, bool) and bool not in types):
            raise SchemaError(f"{required} of {name} is a {type(found).__name__}")


def check_schema(folder: Path, schema: Any) -> None:
    """Raise RunError if a file of a run directory has another schema number than this version reads."""
    if schema == 1 and isinstance(schema, int) and not isinstance(schema, bool):
        raise RunError(f"{folder} was made by longtake 0.1; finish it with that version")
    if schema != RUN_SCHEMA or isinstance(schema, bool):
        raise RunError(
            f"{folder} has schema {schema!r}, and this version of longtake reads {RUN_SCHEMA}: "
            "use the version that made it"
        )
