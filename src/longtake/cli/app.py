"""How a command is described, listed and run; cyclopts parses its flags, and is imported only then."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from longtake.core.errors import InputError
from longtake.core.options import KINDS
from longtake.core.registry import load_reference

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError

ABOUT = "Long video from open diffusion models, resumable to the same bytes."


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    group: the heading that it is listed under. about: one line of help. examples: command lines for its help. home:
    the `module:function` that runs it, imported only then, whose parameters are the flags (default: for `data prepare`
    the function `prepare` of `longtake.cli.commands.data_prepare`). topic: the function of that module that takes the
    words of a call with `--help` and prints help on a narrower topic, or returns False. writes: its result is what it
    writes to the disk, so that it has not failed where what it prints is lost.
    """

    group: str
    about: str
    examples: tuple[str, ...] = ()
    home: str | None = None
    topic: str | None = None
    writes: bool = False

    def function(self, name: str, of: str | None = None) -> Callable[..., Any]:
        """Import the function that runs the command called `name`, or the function `of` of the same module.

        InputError if another package's cannot be imported.
        """
        module, _, function = (self.home or "").partition(":")
        module = module or f"{__package__}.commands.{name.replace(' ', '_')}"
        found: Callable[..., Any] = load_reference(
            f"the command {name!r}", f"{module}:{of or function or name.split()[-1]}"
        )
        return found


def overview(commands: Mapping[str, Command], first_word: str = "") -> str:
    """Return the help that lists commands by group: all, or those of two words that begin with `first_word`."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in (name for name in commands if first_word in ("", name.split()[0])):
        try:
            groups.setdefault(commands[name].group, []).append((name, commands[name].about))
        except InputError as error:  # one broken package must not take the help of all others away
            groups.setdefault("Broken", []).append((name, str(error)))
    wide = max(len(name) for members in groups.values() for name, _ in members) + 2
    lines = ["Usage: longtake COMMAND [OPTIONS]", "", ABOUT]
    for group, members in groups.items():
        lines += ["", _bold(group), *(f"  {name:<{wide}}{about}" for name, about in members)]
    lines += [
        "",
        "`longtake COMMAND --help` shows its options and examples, `longtake help` explains topics.",
        "Errors: --debug shows their origin. The Tab key: --install-completion teaches it to your shell.",
    ]
    return "\n".join(lines)


def run_command(name: str, commands: Mapping[str, Command], words: list[str]) -> int:
    """Parse the words behind a command's name and run it; return its exit code. InputError if they cannot be parsed."""
    command = commands[name]
    helped = any(word in ("--help", "-h") for word in words)
    if helped and command.topic and command.function(name, command.topic)(words):
        return 0
    from cyclopts import CycloptsError

    app = parser(name, command)
    _refuse_fractions(app, words)
    try:
        result = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise InputError(
            f"{_sentence(name, commands, app, error)} `longtake {name} --help` lists the options."
        ) from error
    return result if isinstance(result, int) else 0


def _refuse_fractions(app: App, words: list[str]) -> None:
    """Raise InputError for a fraction where a flag takes a whole number, which the parser would round."""
    found = app.assemble_argument_collection()
    whole = {name: one.hint for one in found for name in one.names if int in _types(one.hint)}
    for word, after in zip(words, [*words[1:], ""]):
        flag, equals, value = word.partition("=")
        value = value if equals else after
        if flag in whole and re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", value):
            raise InputError(f"{flag} must be {_kinds(whole[flag])}, not {value!r}.")


def _types(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _sentence(name: str, commands: Mapping[str, Command], app: App, error: CycloptsError) -> str:
    """Return what is wrong with the words of a command; an unknown flag gets the one that was meant, by its meaning."""
    token = getattr(error, "token", None)
    if type(error).__name__ == "UnknownOptionError" and token is not None:
        return _unknown_option(name, commands, _flags(app), token.keyword or token.value)
    target = getattr(error, "target_type", None)
    if target is not None and token is not None and token.keyword and not getattr(error, "msg", None):
        return f"{token.keyword} must be {_kinds(target)}, not {token.value!r}."
    return " ".join(str(error).split())


def _kinds(target: Any) -> str:
    """Return in words what the value of a flag may be: `a whole number or all`."""
    words: list[str] = []
    for kind in _types(target):
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        elif kind is not NoneType:
            words.append(KINDS.get(getattr(kind, "__name__", ""), f"a {getattr(kind, '__name__', kind)}").lower())
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)


def _unknown_option(command: str, commands: Mapping[str, Command], known: list[str], flag: str) -> str:
    """Return the sentence for a flag that a command lacks: its name here, a near spelling, or the commands that have it."""
    from longtake.core.other_names import HERE, spelled

    flag = flag.partition("=")[0]
    meant = HERE.get(spelled(flag), spelled(flag))
    if meant in known:
        return f"There is no option {flag}: use --{meant}."
    if close := get_close_matches(spelled(flag), [name for name in known if len(name) > 1], 1, 0.75):
        return f"There is no option {flag}: did you mean --{close[0]}?"
    having = [name for name in commands if name != command and _has(name, commands, meant)]
    if not having:
        return f"There is no option {flag}."
    where, other = " and ".join(having[:2]), "" if meant == spelled(flag) else f" (--{meant} here)"
    return f"`longtake {command}` has no option {flag}{other}; {where} {'has' if len(having) == 1 else 'have'} it."


def _has(name: str, commands: Mapping[str, Command], flag: str) -> bool:
    """Whether a command has a flag; one of a package that cannot be imported has none."""
    try:
        return flag in _flags(parser(name, commands[name]))
    except InputError:
        return False


def _flags(app: App) -> list[str]:
    """Return the names of all flags of a command, without their dashes."""
    found = app.assemble_argument_collection()
    return [name.lstrip("-") for one in found for name in one.names if name.startswith("-")]


def parser(name: str, command: Command, *, called: str = "", function: Callable[..., Any] | None = None) -> App:
    """Return the cyclopts app that parses the flags of a command and prints its help.

    called: its name inside a larger app. function: another function with the command's parameters.
    """
    from cyclopts import App, Group, Parameter

    examples = "\n".join(f"  {example}" for example in command.examples)
    app = App(
        name=called or f"longtake {name}",
        help=command.about,
        help_epilogue=f"Examples:\n{examples}" if examples else None,
        help_format="plaintext",
        version_flags=(),
        suppress_keyboard_interrupt=False,
        group_parameters=Group.create_default_parameters("Options"),
        default_parameter=Parameter(negative=(), show_default=_shown),
    )
    app["--help"].show = False
    app.default(function or command.function(name))
    return app


def _shown(default: Any) -> Any:
    """Return the default value as help shows it; nothing for a switch that is off."""
    return None if default in (None, False, (), "") else default


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
