"""prompts: see and change what a video is told while it is made."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from longtake.prompts import Edit
from longtake.reel.edits import Answer, PromptStream, asked
from longtake.script import ScriptError

Action = Literal["list", "add", "insert", "replace"]


def prompts(
    folder: Path, action: Action, prompt: str | None, at: float | None, seconds: float | None, cut: bool | str | None,
    wait: float, as_json: bool,
) -> int:  # fmt: skip
    """List the prompts of a video, or ask for a change."""
    stream = PromptStream(folder)
    if action == "list":
        return _list(stream, as_json)
    if prompt is None:
        raise ScriptError(f'say what should be seen: longtake prompts {folder} {action} "a blue star"')
    if action == "add":
        if at is not None:
            raise ScriptError("add puts a scene behind the last one: use insert or replace with --at")
        answer = stream.add(prompt, seconds=seconds, cut=cut, wait=wait)
    elif action == "insert":
        answer = stream.insert(prompt, at=at, seconds=seconds, cut=cut, wait=wait)
    else:
        if seconds is not None:
            raise ScriptError("replace keeps all times: use insert with --seconds")
        answer = stream.replace(prompt, at=at, cut=cut, wait=wait)
    _say(answer, folder, as_json)
    return 0


def _say(answer: Answer, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(answer)))
    elif answer.taken:
        print(f"taken: from {answer.seconds:.2f} s on")
    else:
        print(
            f"asked for: it takes effect at the next clip or block that begins (longtake prompts {folder} list shows "
            "when; a stopped video takes it when it is resumed)"
        )


def _list(stream: PromptStream, as_json: bool) -> int:
    rows, waiting = stream.list(), [Edit.from_facts(line) for line in asked(stream.layout)]
    if as_json:
        told = {"earliest": stream.earliest / stream.fps, "scenes": [asdict(row) for row in rows]}
        print(json.dumps({**told, "asked": [edit.facts() for edit in waiting]}))
        return 0
    table = Table(box=None, pad_edge=False)
    for name in ("from", "to", "", "begins", "prompt"):
        table.add_column(name)
    for row in rows:
        end = "∞" if row.end is None else f"{row.end:.2f} s"
        did = row.did + (f" ({row.distance:.2f})" if row.distance is not None else "")
        table.add_row(f"{row.start:.2f} s", end, row.state, did, escape(row.prompt))
    console = Console(highlight=False)
    console.print(table)
    for edit in waiting:
        console.print(f"asked for: {edit.op} {escape(edit.prompt)!r}", soft_wrap=True)
    console.print(f"the earliest time that can still change: {stream.earliest / stream.fps:.2f} s")
    return 0
