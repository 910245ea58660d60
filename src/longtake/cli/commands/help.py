"""help: pages on topics, strategies, models, recipes and commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from longtake.cli.completers import completed_by
from longtake.cli.help_topics import TOPICS, Blocks, names, page
from longtake.cli.registry import COMMANDS

WIDEST = 100  # characters of a line, which nobody reads beyond


def help(*topic: Annotated[str, completed_by(lambda word: names())]) -> int:
    """Explain a topic, a strategy, a model, a recipe or a command.

    Args:
        topic: Any name, such as scripts, sliding, pocket or generate (default: list the topics).
    """
    from longtake.planning.strategies.registry import STRATEGIES

    name = " ".join(topic)
    if name in COMMANDS and name not in TOPICS:
        from longtake.cli.app import run_command

        return run_command(name, COMMANDS, ["--help"])
    if name in STRATEGIES:
        from longtake.cli.flags.strategy import print_strategy_help

        print_strategy_help(["--strategy", name])
        return 0
    _print(page(name) if name else _contents())
    return 0


def _contents() -> Blocks:
    yield "`longtake help NAME` explains a topic:"
    yield {name: topic.about for name, topic in TOPICS.items()}
    yield "and every command, strategy, model and recipe by its name:"
    yield {name: command.about for name, command in COMMANDS.items()}


def _print(blocks: Blocks) -> None:
    """Print paragraphs, and terms with their meanings beside them."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    for number, block in enumerate(block for block in blocks if block):
        if number:
            console.print()
        if isinstance(block, Mapping):
            table = Table(box=None, show_header=False, pad_edge=False)
            for term, meaning in block.items():
                table.add_row(f"[bold]{escape(term)}[/]", escape(meaning))
            console.print(Padding(table, (0, 0, 0, 2)))
        else:
            console.print(escape(block.rstrip()), soft_wrap="\n" in block)
