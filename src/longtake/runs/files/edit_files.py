"""The files of script edits in a run directory: what users requested, what the run decided, what can still change.

Users append requests to `edits.jsonl`, under a lock. The process that generates the video decides them between windows
and writes the decision to the journal before the next window starts, so that a resumed run generates the same video.
It also keeps `edit_horizon.json` up to date, which tells users the first output frame that an edit can still change.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from longtake.core.platform import delete_file, lock_file, replace_file, sync, sync_folder
from longtake.planning.script import Script
from longtake.planning.script_edits import Edit, edited
from longtake.runs.files import durable, journal
from longtake.runs.files.journal import EDIT, Line
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import Manifest
from longtake.runs.files.schema import RUN_SCHEMA, Keys, SchemaError, check_keys, key
from longtake.runs.files.sealed import CHECK, sealed, unsealed

REQUEST_KEYS: Keys = {
    "schema": key("schema number of the run directory", int),
    "id": key("id of the request, which the journal repeats with the decision", str),
    "op": key("add, insert or replace", str),
    "prompt": key("prompt of the scene", str),
    "at": key("frame at which the scene begins, after an extended video", int, optional=True),
    "frames": key("length of the scene in output frames", int, optional=True),
    "cut": key("how the scene begins: true is a cut; or cut, anchor, resample", bool, str, optional=True),
}  # the keys of a line of edits.jsonl
HORIZON_KEYS: Keys = {
    "schema": key("schema number of the run directory", int),
    "frame": key("first output frame that an edit can still change", int),
}  # the keys of edit_horizon.json
LONGEST_LINE = 1 << 16  # bytes; a longer line of edits.jsonl is ignored


def new_request(edit: Edit) -> tuple[str, bytes]:
    """Return the id of a new request for an edit, and its line for edits.jsonl."""
    line = {"schema": RUN_SCHEMA, "id": uuid.uuid4().hex[:12], **edit.facts()}
    return str(line["id"]), sealed(line)[0]


def parse_request(raw: bytes) -> Line | None:
    """Return the request in a line of edits.jsonl; None if the line is none. `Edit.from_facts` checks the edit itself.

    A line that another program wrote needs no checksum; one that has a checksum must agree with it.
    """
    try:
        line = json.loads(raw) if len(raw) <= LONGEST_LINE else None
        if isinstance(line, dict) and CHECK in line:
            line, _ = unsealed(raw) or (None, "")
        check_keys(line or {}, REQUEST_KEYS, "a request")
    except (ValueError, RecursionError, TypeError):
        return None
    return line if line is not None and line["schema"] == RUN_SCHEMA else None


def damaged_requests(layout: Layout) -> list[int]:
    """Return the numbers, from 1, of the complete lines of edits.jsonl that are no request, and so are ignored."""
    path = layout.edit_requests
    raws = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [n for n, raw in enumerate(raws, 1) if raw.endswith(b"\n") and parse_request(raw) is None]


def pending_requests(layout: Layout) -> Iterator[Line]:
    """Yield the requests that the run has not decided yet."""
    decided = {line["id"] for line in decisions(layout)}
    path = layout.edit_requests
    raws = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for line in filter(None, map(parse_request, raws)):
        if line["id"] not in decided:
            yield line


def append_request(path: Path, raw: bytes) -> None:
    """Append a line, durable on return; cuts off an incomplete last line that a killed process left."""
    durable.unshare(path)
    with open(path, "a+b", buffering=0) as file:
        lock_file(file, wait=True)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LONGEST_LINE))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)
        durable.write_all(file, raw)
        sync(file.fileno())
    sync_folder(path.parent)


def write_horizon(layout: Layout, frame: int) -> None:
    """Write edit_horizon.json, atomically. It is only a hint for users, so it need not be durable."""
    path = layout.edit_horizon
    temporary = path.with_name(path.name + durable.TEMPORARY)
    delete_file(temporary)
    temporary.write_bytes(sealed({"schema": RUN_SCHEMA, "frame": frame})[0])
    replace_file(temporary, path)


def read_horizon(layout: Layout) -> int:
    """Return the first output frame that an edit can still change; 0 if the file is missing or damaged."""
    try:
        value, _ = unsealed(layout.edit_horizon.read_bytes()) or ({}, "")
        check_keys(value, HORIZON_KEYS, layout.edit_horizon.name)
        return int(value["frame"])
    except (OSError, SchemaError):
        return 0


def horizon_is_damaged(layout: Layout) -> bool:
    """Whether edit_horizon.json exists and is not as it was written."""
    try:
        return unsealed(layout.edit_horizon.read_bytes()) is None
    except FileNotFoundError:
        return False


def decisions(layout: Layout) -> Iterator[Line]:
    """Yield what the run decided about requests, in order; a refused request has the key "refused"."""
    return journal.lines_of_kind(layout.journal, EDIT)


def accepted_edits(layout: Layout) -> Iterator[tuple[int, Edit]]:
    """Yield the accepted edits, in order, each with the window before which it was accepted."""
    for line in decisions(layout):
        if "refused" not in line:
            yield line["window"], Edit.from_facts(line)


def edited_manifest(layout: Layout, manifest: Manifest) -> Manifest:
    """Return the manifest with the script as the accepted edits changed it."""
    facts = manifest.settings.get("script")
    if not isinstance(facts, dict):
        return manifest
    script = Script.from_facts(facts)
    for _, edit in accepted_edits(layout):
        script = edited(script, edit, float(manifest.fps))
    return replace(manifest, settings={**manifest.settings, "script": script.facts()})
