"""`longtake help NAME` explains every topic and every name of the registries, from what they say themselves."""

import re
import subprocess
import sys

import pytest

from longtake.cli import run
from longtake.cli.app import parser
from longtake.cli.failures import EXIT_CODES
from longtake.cli.help_topics import TOPICS, names
from longtake.cli.registry import COMMANDS
from longtake.planning.script_files import EXAMPLE, SCENE_KEYS, read_script_file
from longtake.planning.strategies.registry import STRATEGIES


def shown(capsys, *words: str) -> str:
    """What `longtake help` prints, with single spaces."""
    capsys.readouterr()
    assert run(["help", *words]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", names())
def test_every_name_has_a_page(capsys, name):
    assert len(shown(capsys, *name.split())) > 40


def test_the_list_names_every_topic_and_command(capsys):
    text = shown(capsys)
    assert all(f"{name} " in text for name in [*TOPICS, *COMMANDS])


def test_pages_say_what_the_registries_say(capsys):
    assert all(f"{code} {meaning}" in shown(capsys, "exit-codes") for code, meaning in EXIT_CODES.items())
    text = shown(capsys, "strategies")
    assert all(strategy.about in text for strategy in STRATEGIES.values())
    text = shown(capsys, "sliding")
    assert all(f"{heading}: {words}." in text for heading, words in STRATEGIES["sliding"].advice.rows())
    assert "--overlap INT" in text


def test_every_built_in_strategy_gives_advice():
    assert all(len(strategy.advice.rows()) == 3 for strategy in STRATEGIES.values())


def test_the_example_of_a_script_can_be_used(capsys, tmp_path):
    (tmp_path / "s.toml").write_text(EXAMPLE)
    assert [scene.cut for scene in read_script_file(tmp_path / "s.toml").scenes] == [False, True]
    assert all(f"{key} " in shown(capsys, "scripts") for key in SCENE_KEYS)


def test_flags_in_the_pages_exist(capsys):
    known = {"-o", "--lora"}
    for command in COMMANDS:
        known |= {
            name for one in parser(command, COMMANDS[command]).assemble_argument_collection() for name in one.names
        }
    for topic in TOPICS:
        assert set(re.findall(r"--[a-z][a-z0-9-]*", shown(capsys, topic))) <= known, topic


def test_an_unknown_topic_is_answered_with_the_nearest(capsys):
    assert run(["help", "slidng"]) == 2
    assert "did you mean 'sliding'?" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = "import sys; from longtake.cli import run; run(['help']); run(['help', 'models']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
