"""prompts: list and change the prompts of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from longtake.cli.completers import RunFolder
from longtake.cli.flags.options import readable
from longtake.core.errors import ScriptError
from longtake.runs.target import expect_run

if TYPE_CHECKING:
    from longtake.runs.prompt_stream import EditAnswer, PromptStream

Action = Literal["list", "add", "insert", "replace"]


def prompts(
    run: RunFolder,
    action: Action = "list",
    prompt: str | None = None,
    /,
    *,
    at: float | None = None,
    seconds: float | None = None,
    cut: Literal["no", "yes", "anchor", "resample"] | None = None,
    wait: float = 2.0,
    format: Literal["text", "json"] = "text",
) -> int:
    """List the prompts of a run, or change those still to come, also while it runs. Generated frames never change.

    Args:
        run: The run directory, or the video file beside it.
        action: list; add a scene at the end; insert one and move the rest; replace the prompt until its scene ends.
        prompt: Text prompt of the scene.
        at: Second of the video at which the change takes effect (default: as early as possible).
        seconds: Length of an added or inserted scene (default: 5).
        cut: Start a new shot: no; yes, without context frames; anchor or resample, from the first frame of the shot as
            it is, or re-noised and denoised under the new prompt.
        wait: Seconds to wait for the process that generates the video to accept the change.
        format: text, or json for one object.
    """
    kind: bool | str | None = {"no": False, "yes": True}.get(cut or "", cut)
    return _edit(expect_run(run), action, readable(prompt), at, seconds, kind, wait, format == "json")


def _edit(
    folder: Path, action: Action, prompt: str | None, at: float | None, seconds: float | None, cut: bool | str | None,
    wait: float, as_json: bool,
) -> int:  # fmt: skip
    from longtake.runs.prompt_stream import PromptStream

    stream = PromptStream(folder)
    if action == "list":
        return _list(stream, as_json)
    if prompt is None:
        raise ScriptError(f'give a prompt: longtake prompts {folder} {action} "a blue star"')
    if action == "add":
        if at is not None:
            raise ScriptError("add appends a scene after the last one: use insert or replace with --at")
        answer = stream.add(prompt, seconds=seconds, cut=cut, wait=wait)
    elif action == "insert":
        answer = stream.insert(prompt, at=at, seconds=seconds, cut=cut, wait=wait)
    else:
        if seconds is not None:
            raise ScriptError("replace keeps all times: use insert with --seconds")
        answer = stream.replace(prompt, at=at, cut=cut, wait=wait)
    _say(answer, folder, as_json)
    return 0


def _say(answer: EditAnswer, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(answer)))
    elif answer.accepted:
        print(f"accepted: from {answer.seconds:.2f} s on")
    else:
        print(
            f"pending: the change takes effect at the next clip or block; `longtake prompts {folder} list` shows when. "
            "If the run is stopped, it takes effect after `longtake resume`."
        )


def _list(stream: PromptStream, as_json: bool) -> int:
    rows, waiting = stream.scenes(), stream.pending()
    if as_json:
        facts = {"earliest": stream.earliest / stream.fps, "scenes": [asdict(row) for row in rows]}
        print(json.dumps({**facts, "pending": [edit.facts() for edit in waiting]}))
        return 0
    table = Table(box=None, pad_edge=False)
    for name in ("from", "to", "state", "transition", "prompt"):
        table.add_column(name)
    for row in rows:
        end = "∞" if row.end is None else f"{row.end:.2f} s"
        did = row.did + (f" (prompt distance {row.distance:.2f})" if row.distance is not None else "")
        table.add_row(f"{row.start:.2f} s", end, row.state, did, escape(row.prompt))
    console = Console(highlight=False)
    console.print(table)
    for edit in waiting:
        console.print(f"pending: {edit.op} {escape(edit.prompt)!r}", soft_wrap=True)
    if rows and rows[-1].end is not None and stream.earliest >= round(rows[-1].end * stream.fps):
        console.print("nothing can change any more: all frames are generated, or being generated")
    else:
        console.print(f"the earliest time that can still change: {stream.earliest / stream.fps:.2f} s")
    return 0
