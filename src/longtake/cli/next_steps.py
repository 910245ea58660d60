"""The last lines of a command: how to watch its video, to extend it and to make a variation, as commands to paste."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from longtake.core.errors import InputError
from longtake.core.platform import player_command
from longtake.core.units import argument, command_line
from longtake.models.model import Model
from longtake.pipelines.settings.inputs import check_inputs
from longtake.pipelines.settings.request import Inputs
from longtake.runs.delivery import shown_file
from longtake.runs.files import output_record
from longtake.runs.files.layout import Layout
from longtake.runs.files.manifest import manifest_of
from longtake.runs.files.output_record import OutputRecord

CARRIED = ("model", "size", "height", "width", "fps", "lora", "device", "dtype", "offload", "fp8", "attention")


def print_next_steps(console: Console, folder: Path, model: Model | None = None) -> None:
    """Print a command for each of the things that are done next with the video of a finished run.

    model: that of the run; without it nothing is said about an extension.
    """
    for name, words in next_steps(folder, model):
        console.print(f"  {name:<13}  {escape(command_line(words))}", soft_wrap=True)


def next_steps(folder: Path, model: Model | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield the words of each command, and what it does."""
    record = output_record.load(folder)
    video = Layout(folder).video if record is None else shown_file(folder, record) or Layout(folder).video
    if (player := player_command()) is not None:
        yield "watch", [*player, str(video)]
    if model is not None and _extends(model):
        settings = manifest_of(folder).settings
        flags = _carried(record.command if record else (f"--model={settings['model']}",))
        prompt = settings["script"]["scenes"][-1]["prompt"]
        yield "extend", ["longtake", "extend", argument(video), prompt, "--seconds", "5", *_apart(flags)]
    if record is not None and record.command:
        yield "another one", another(record)


def another(record: OutputRecord, count: int = 1) -> list[str]:
    """Return the command for other videos like one, with seeds that are drawn."""
    words = [word for word in record.command if not word.startswith("--seed=")]
    return ["longtake", *_apart(words), "--seed", "random", *([] if count == 1 else ["--count", str(count)])]


def _extends(model: Model) -> bool:
    """Whether the model can continue a video."""
    try:
        check_inputs(model, Inputs(video=Path()))
    except InputError:
        return False
    return True


def _carried(words: Iterable[str]) -> list[str]:
    """Return the flags of a command that its continuation has too."""
    return [word for word in words if word.startswith("--") and word[2:].partition("=")[0] in CARRIED]


def _apart(words: Iterable[str]) -> Iterator[str]:
    """Yield words with flags and values apart, as people write them: `--seconds 10`."""
    for word in words:
        flag, equals, value = word.partition("=")
        if word.startswith("--") and equals and not value.startswith("-"):
            yield from (flag, value)
        else:
            yield word
