"""The flags of the strategies' own options; the help of a command lists them behind `--strategy NAME --help`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import Parameter

from longtake.cli.flags.options import parameter
from longtake.core.options import STRATEGY
from longtake.planning.strategies.options import SCHEDULE_OPTIONS
from longtake.planning.strategies.registry import STRATEGIES, Option


def own_options(name: str) -> Mapping[str, Option]:
    """Return the options of a strategy that are not those of every sigma schedule. PlanError if there is no such name."""
    return {key: option for key, option in STRATEGIES[name].options().items() if key not in SCHEDULE_OPTIONS}


@cache
def strategy_flags() -> Mapping[str, Any]:
    """Return a flag for every option of any strategy; the help of a command does not list them."""
    found = {key: option for name in STRATEGIES for key, option in own_options(name).items()}
    return {key: Annotated[option.type | None, _hidden(option)] for key, option in found.items()}


def _hidden(option: Option) -> Parameter:
    """Return the parameter of a flag that help does not list; a switch can be turned off too, with --no-NAME."""
    return parameter(
        _sentence(option), STRATEGY, off=f"--no-{_flag(option)[2:]}" if option.type is bool else "", show=False
    )


def _flag(option: Option) -> str:
    return f"--{option.name.replace('_', '-')}"


def print_strategy_help(words: Sequence[str]) -> bool:
    """Print the options of the strategy that a command line with --help names; return False if it names none."""
    name = next((word.partition("=")[2] for word in words if word.startswith("--strategy=")), None)
    name = name or next((after for word, after in pairwise(words) if word == "--strategy"), None)
    if name is None or name.startswith("-"):
        return False
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    strategy, table = STRATEGIES[name], Table(box=None, pad_edge=False, show_header=False)
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/]: {escape(strategy.about)}.\n")
    if advice := strategy.advice.rows():
        console.print("\n".join(f"{heading}: {escape(words)}." for heading, words in advice) + "\n")
    for option in own_options(name).values():
        kind, choices = _kind(option.type)
        flag = f"{_flag(option)} {kind}".rstrip()
        table.add_row(f"--no-{flag[2:]}" if option.default is True else flag, escape(_sentence(option) + choices))
    console.print(table)
    example = f'longtake generate "a red ball" --strategy {name} {strategy.example}'.strip()
    console.print(f"\nExample:\n  {escape(example)}\n", soft_wrap=True)
    console.print(f"`longtake generate --help` lists all other options; `longtake plan {name}` draws the strategy.")
    return True


def _kind(type: Any) -> tuple[str, str]:
    """Return the word behind a flag of this type ("" for a switch), and its choices as the help lists them."""
    kinds = (
        [one for one in get_args(type) or (type,) if one is not NoneType] if get_origin(type) is not Literal else [type]
    )
    words = [choice for one in kinds if get_origin(one) is Literal for choice in get_args(one)]
    names = [one.__name__.upper() for one in kinds if get_origin(one) is not Literal and one is not bool]
    if names:
        return "|".join([*names, *words]), ""
    return ("CHOICE", f" [choices: {', '.join(words)}]") if words else ("", "")


def _sentence(option: Option) -> str:
    text = option.help[:1].upper() + option.help[1:].rstrip(".")
    if option.default is True:
        return f"Turns off what is on by default: {option.help.rstrip('.')}."
    shown = "" if option.default in (None, "", False) or "default" in text else f" (default: {option.default})"
    return f"{text}{shown}."
