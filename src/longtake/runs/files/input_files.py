"""Copies of the input files in a run directory: made when the run starts, compared with their hashes on every resume.

`facts` is settings["inputs"] of run.json: {kind: {"name": file name of the copy, "sha256": of its bytes, ...}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longtake.runs.files import durable
from longtake.runs.files.durable import BLOCK
from longtake.runs.files.errors import RunError
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import Manifest

Facts = Mapping[str, Any]


def input_facts(manifest: Manifest) -> Facts:
    """Return what run.json records of the input files; empty if there are none. Raises RunError if it is damaged."""
    facts = manifest.settings.get("inputs", {})
    files = [fact for kind, fact in facts.items() if kind != "pixels"] if isinstance(facts, Mapping) else [facts]
    if not all(isinstance(fact, Mapping) and isinstance(fact.get("name", ""), str) for fact in files):
        raise RunError("the inputs in run.json are damaged: put back a copy of it, or start a run in a new folder")
    return facts


def frames_before(manifest: Manifest) -> int:
    """Return the number of output frames that a run which extends a video copies from that video; 0 for other runs."""
    return input_facts(manifest).get("video", {}).get("frames", 0)


def copy_inputs(layout: Layout, facts: Facts, sources: Mapping[str, Path]) -> None:
    """Copy the input files into the run directory, durably.

    sources: files by kind. Raises RunError if one is missing, or changed since `facts` was made.
    """
    for kind, fact in _files(facts):
        if kind not in sources:
            raise RunError(
                f"the input {kind} is not a file, and a run directory keeps its inputs: save it to a file first"
            )
        layout.inputs.mkdir(parents=True, exist_ok=True)
        written = durable.write_file(layout.inputs / fact["name"], _blocks(sources[kind]))
        if written.sha256 != fact["sha256"]:
            raise RunError(f"{sources[kind]} changed while it was copied: start the run again")


def checked_inputs(folder: Path | str, facts: Facts) -> dict[str, Path]:
    """Return the copies of the input files by kind; raises RunError if one is missing or altered."""
    layout = Layout(Path(folder))
    for kind, fact in _files(facts):
        path = layout.inputs / fact["name"]
        found = durable.file_digest(path)
        if found is None or found.sha256 != fact["sha256"]:
            problem = "is missing" if found is None else "was altered"
            raise RunError(
                f"{path}, the input {kind} of this run, {problem}: put back the file with SHA-256 {fact['sha256']}"
            )
    return {kind: layout.inputs / fact["name"] for kind, fact in _files(facts)}


def _files(facts: Facts) -> Iterator[tuple[str, Facts]]:
    return ((kind, fact) for kind, fact in facts.items() if isinstance(fact, Mapping) and "sha256" in fact)


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block
