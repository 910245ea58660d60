"""Files that a video was given, kept with the reel: copied bit for bit when it begins, compared whenever it goes on.

`facts` is run.json's settings["given"]: {kind: {"name": file name of the copy, "sha256": of its bytes, ...}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longtake.reel import disk
from longtake.reel.disk import BLOCK, ReelError
from longtake.reel.layout import Layout

Facts = Mapping[str, Any]


def keep(layout: Layout, facts: Facts, sources: Mapping[str, Path]) -> None:
    """Copy the files into the reel, durably. ReelError if one is not what `facts` says, having changed meanwhile."""
    for kind, fact in _files(facts):
        if kind not in sources:
            raise ReelError(f"a reel keeps what it was given, but there is no file of the {kind}: save it as one first")
        layout.given.mkdir(parents=True, exist_ok=True)
        written = disk.write(layout.given / fact["name"], _blocks(sources[kind]))
        if written.sha256 != fact["sha256"]:
            raise ReelError(f"{sources[kind]} changed while it was being copied: begin again")


def kept(folder: Path | str, facts: Facts) -> dict[str, Path]:
    """The copies, by kind. ReelError names one that was altered or is gone."""
    layout = Layout(Path(folder))
    for kind, fact in _files(facts):
        path = layout.given / fact["name"]
        found = disk.measure(path)
        if found is None or found.sha256 != fact["sha256"]:
            what = "is gone" if found is None else "was altered"
            raise ReelError(
                f"{path}, the {kind} that this video was given, {what}: put back the file of SHA-256 {fact['sha256']}"
            )
    return {kind: layout.given / fact["name"] for kind, fact in _files(facts)}


def _files(facts: Facts) -> Iterator[tuple[str, Facts]]:
    return ((kind, fact) for kind, fact in facts.items() if isinstance(fact, Mapping) and "sha256" in fact)


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block
