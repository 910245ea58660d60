"""Help: commands in groups on one screen, flags in groups on two, a strategy's own options behind its name."""

import pytest

import longtake
from longtake.cli import run
from longtake.cli.app import Command
from longtake.cli.registry import COMMANDS
from longtake.core.errors import InputError
from longtake.planning.strategies.registry import STRATEGIES


def printed(capsys, *words):
    assert run(list(words)) == 0
    return capsys.readouterr().out


def test_the_commands_fit_on_one_screen(capsys):
    lines = printed(capsys, "--help").splitlines()
    assert len(lines) < 48 and max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_its_help(capsys, name):
    assert f"Usage: longtake {name}" in printed(capsys, *name.split(), "--help")


def test_the_help_of_generate_fits_on_two_screens(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = printed(capsys, "generate", "--help")
    assert len(shown.splitlines()) <= 112 and "--sink-frames" not in shown
    groups = [
        "What to show",
        "Length and size",
        "Quality and speed",
        "Long-video strategy",
        "Device and memory",
        "Output",
    ]
    places = [shown.index(f"─ {group} ─") for group in groups]
    assert places == sorted(places)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_options_of_a_strategy_are_behind_its_name(capsys, name):
    shown = printed(capsys, "generate", "--strategy", name, "--help")
    assert STRATEGIES[name].about.split()[0] in shown and "--steps" not in shown.split("Example")[0]


def test_another_package_adds_a_command(capsys):
    longtake.register_command("data count", Command("Train", "Count to n.", home="tests.cli.test_help:count"))
    try:
        assert "data count    Count to n." in printed(capsys, "--help") and "data count" in printed(
            capsys, "data", "-h"
        )
        assert printed(capsys, "data", "count", "--n", "3") == "0 1 2\n"
        with pytest.raises(InputError, match="a command called 'verify' already"):
            longtake.register_command("verify", COMMANDS["verify"])
    finally:
        COMMANDS.remove("data count")


def count(*, n: int) -> None:
    """Count.

    Args:
        n: How far.
    """
    print(*range(n))


def test_a_broken_package_leaves_the_help_of_all_others(capsys):
    COMMANDS.register("broken", "no_such_package:COMMAND")
    try:
        shown = printed(capsys, "--help")
        assert "the command 'broken' cannot be imported" in shown and "verify" in shown
        assert run(["broken"]) == 2
    finally:
        COMMANDS.remove("broken")


def test_the_help_of_a_strategy_gives_types_choices_and_the_way_to_turn_a_switch_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    shown = printed(capsys, "generate", "--strategy", "sliding", "--help")
    assert "--overlap INT " in shown and "--overlap-source CHOICE " in shown and "[choices: old, new, blend]" in shown
    shown = printed(capsys, "generate", "--strategy", "blocks", "--help")
    assert "--ar-step INT|all" in shown and "--no-grow-view" in shown


def test_the_lag_of_all_steps_can_be_typed(capsys):
    words = ["plan", "continuous", "--seconds", "1", "--steps", "4"]
    assert "28 model calls" in printed(capsys, *words, "--ar-step", "all")
    assert "16 model calls" in printed(capsys, *words, "--ar-step", "2")
    assert (
        run([*words, "--ar-step", "every"]) == 2
        and "--ar-step must be a whole number or all, not 'every'" in capsys.readouterr().err
    )
    assert run(["plan", "sliding", "--ar-step", "all"]) == 2


def test_the_list_of_models_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, "models").splitlines()
    assert max(map(len, lines)) <= 80 and "skywork-license: skyreels-*" in "\n".join(lines)


def test_a_mistyped_command_gets_the_nearest_one(capsys):
    assert run(["genrate"]) == 2
    assert "did you mean 'generate'?" in capsys.readouterr().err
    assert run(["data"]) == 2
    assert "data prepare" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "words", "flag"), [
    ("generate", ["a", "--cfg", "5"], "--guidance-scale"),
    ("generate", ["a", "--length", "97"], "--num-frames"),
    ("generate", ["a", "--overlap_history", "17"], "--overlap"),
    ("extend", ["a.mp4", "a", "--end-image", "b.png"], "--last-image"),
    ("plan", ["async", "--lag", "5"], "--ar-step"),
])  # fmt: skip
def test_a_flag_of_another_tool_gets_the_name_that_it_has_here(capsys, command, words, flag):
    assert run([command, *words]) == 2
    assert f"use {flag}." in capsys.readouterr().err


@pytest.mark.parametrize(("words", "owner"), [
    (["plan", "--cfg", "3"], "has no option --cfg (--guidance-scale here); generate and extend have it"),
    (["plan", "sliding", "--sampler", "unipc"], "has no option --sampler (--solver here); generate and extend have it"),
    (["verify", "x", "--device", "cpu"], "has no option --device; generate and extend have it"),
    (["generate", "a", "--zzz", "3"], "There is no option --zzz. `longtake generate --help`"),
])  # fmt: skip
def test_a_flag_of_another_command_is_no_misspelling(capsys, words, owner):
    assert run(words) == 2
    said = capsys.readouterr().err
    assert owner in said and "did you mean" not in said


def test_the_options_of_a_command_are_called_options(capsys):
    assert "─ Options ─" in printed(capsys, "plan", "--help") and "Parameters" not in printed(capsys, "plan", "--help")


def test_every_name_of_another_tool_stands_for_a_flag_and_is_none_itself():
    from longtake.cli.app import parser
    from longtake.core.other_names import HERE, NAMES

    app = parser("generate", COMMANDS["generate"])
    flags = {name for one in app.assemble_argument_collection() for name in one.names}
    assert {f"--{name}" for name in NAMES} <= flags and not {f"--{other}" for other in HERE} & flags


def test_train_without_a_recipe_lists_all(capsys):
    from longtake.train.recipes.registry import RECIPES

    shown = printed(capsys, "train")
    assert all(name in shown for name in RECIPES)
