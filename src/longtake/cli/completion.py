"""Shell completion: the script for bash, zsh or fish, made from the registry of commands by the library that parses them.

The script holds the names of commands and flags; for a value that only this program knows it calls `longtake __complete`.
"""

from __future__ import annotations

import inspect
from dataclasses import field as dataclass_field
from dataclasses import fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from longtake.cli.app import ABOUT, parser
from longtake.cli.registry import COMMANDS
from longtake.core.errors import InputError
from longtake.core.registry import suggestion

if TYPE_CHECKING:
    from cyclopts import App

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")
OPTIONS = ("--show-completion", "--install-completion")


def completion(words: list[str]) -> int:
    """Run `longtake --show-completion [SHELL]` or `longtake --install-completion [SHELL]`."""
    option, shell = words[0], _shell(words[1:])
    if option == "--show-completion":
        print(tree().generate_completion(shell=shell), end="")
        return 0
    path = tree().install_completion(shell=shell, add_to_startup=shell != "fish")
    starts = {
        "bash": f", and a line in {Path.home() / '.bashrc'} loads it",
        "zsh": f", and {Path.home() / '.zshrc'} finds it",
    }
    print(
        f"{path} completes the commands of longtake in {shell}{starts.get(shell, '')}. Open a new terminal to use it."
    )
    return 0


def complete(words: list[str]) -> int:
    """Print what the Tab key proposes after these words; the completion script calls it."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS and len(words) > count:
            parser(name, COMMANDS[name])(["__complete", *words[count:]], result_action="return_value")
            break
    return 0


def _shell(words: list[str]) -> Shell:
    """Return the shell that was named, or the one that this process was started from. InputError if it is no other."""
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    if len(words) > 1:
        raise InputError(f"give one of {', '.join(SHELLS)}, or nothing for the shell that you use")
    try:
        name = words[0] if words else detect_shell()
    except ShellDetectionError as error:
        raise InputError(f"which shell you use cannot be seen here: add {' or '.join(SHELLS)}") from error
    for shell in SHELLS:
        if shell == name:
            return shell
    raise InputError(f"there is no completion for the shell {name!r}: {suggestion(name, SHELLS)}")


def tree() -> App:
    """Return all commands as one app, with the flags that help does not list too; a broken one of another package is left out."""
    from cyclopts import App

    root = App(name="longtake", help=ABOUT, version_flags=())
    for option in ("--version", *OPTIONS):
        root.command(lambda: None, name=option)
    branches = {"": root}
    for name, command in COMMANDS.items():
        *first, last = name.split()
        branch = " ".join(first)
        if branch not in branches:
            branches[branch] = App(name=branch, version_flags=())
            root.command(branches[branch])
        try:
            branches[branch].command(
                parser(name, command, called=last, function=_with_all_flags(command.function(name)))
            )
        except InputError:
            continue
    return root


def _with_all_flags(function: Any) -> Any:
    """Return a stand-in for a command's function, whose hidden flags are shown."""
    hints = get_type_hints(function, include_extras=True)

    def shown(hint: Any) -> Any:
        kind, *rest = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        kind = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)  # of `Flags | None` as well
        if kind is None:
            return hint
        columns = [(one.name, _visible(one.type), dataclass_field(default=None)) for one in fields(kind)]
        made = make_dataclass("Flags", columns, frozen=True)
        made.__module__ = __name__
        return Annotated[(made, *rest)]

    def stand_in(*arguments: Any, **keywords: Any) -> None: ...

    signature = inspect.signature(function)
    parameters = [one.replace(annotation=shown(hints[name])) for name, one in signature.parameters.items()]
    stand_in.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    stand_in.__annotations__ = {one.name: one.annotation for one in parameters}
    stand_in.__doc__ = function.__doc__
    return stand_in


def _visible(hint: Any) -> Any:
    """Return the annotation of a flag that help lists; a switch takes no value."""
    from cyclopts import Parameter

    kind, *rest = get_args(hint)
    return Annotated[(bool if kind == bool | None else kind, *rest, Parameter(show=True))]
