"""Notices reach Python users as warnings at their own line, and through the log of the package, which is silent by itself."""

import logging
import subprocess
import sys
import warnings

import pytest

import longtake
from longtake.cli import run
from longtake.core.process.notices import notice

CALL = "pipe = longtake.load('pocket')\npipe('a red zeppelin', num_frames=9, num_inference_steps=1)"


def test_a_notice_is_a_warning_at_the_line_of_the_user():
    with pytest.warns(longtake.InputWarning, match="zeppelin") as caught:
        longtake.load("pocket")("a red zeppelin", num_frames=9, num_inference_steps=1)
    assert caught[0].filename == __file__


def test_a_notice_is_logged(caplog):
    with caplog.at_level(logging.WARNING, "longtake"), pytest.warns(longtake.InputWarning):
        notice("the sound is cut off")
    assert [(one.name, one.levelname, one.message) for one in caplog.records] == [
        ("longtake", "WARNING", "the sound is cut off")
    ]


def test_the_log_prints_nothing_unless_it_is_asked_to(tmp_path):
    quiet = "import warnings, longtake; warnings.simplefilter('ignore')\n" + CALL
    done = subprocess.run([sys.executable, "-c", quiet], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    asked = "import logging; logging.basicConfig(format='%(name)s says: %(message)s')\n" + quiet
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert (
        done.stderr.startswith("longtake says: pocket was not trained with these words")
        and done.stderr.count("\n") == 1
    )


def test_the_command_line_says_a_notice_once(tmp_path, capsys):
    words = ["generate", "a red zeppelin", "--seconds", "0.4", "--steps", "1", "-o", str(tmp_path / "r")]
    with warnings.catch_warnings():
        assert run(words) == 0
    assert capsys.readouterr().err.count("note: ") == 1
