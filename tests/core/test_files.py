"""Text files are read with or without a byte order mark, and nothing waits for a pipe or a device."""

import os
import warnings
from pathlib import Path

import pytest

from longtake.cli.notes import printed_notes
from longtake.core.errors import InputError, ScriptError
from longtake.core.files import json_object, read_text, read_toml
from longtake.core.process.notices import InputWarning, notice
from longtake.data.captions.tables import read_table
from longtake.planning.script_files import read_script_file
from longtake.pocket.stories import story_writer


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path, encoding):
    for name, text in {
        "a.txt": "# first\na red ball\n\ufeffa blue star\n",
        "a.toml": '[[scene]]\nprompt = "a red ball"\n[[scene]]\nprompt = "a blue star"\n',
    }.items():
        (tmp_path / name).write_text(text, encoding=encoding)
        scenes = read_script_file(tmp_path / name).scenes
        assert [scene.prompt for scene in scenes] == ["a red ball", "a blue star"]
    (tmp_path / "a.csv").write_text("file,caption\na.mp4,a dog\n", encoding=encoding)
    assert read_table(tmp_path / "a.csv", ["a.mp4"]).captions["a.mp4"][0][1].text == "a dog"
    (tmp_path / "a.jsonl").write_text('{"file": "a.mp4", "caption": "a dog"}\n', encoding=encoding)
    assert read_table(tmp_path / "a.jsonl", ["a.mp4"]).captions["a.mp4"][0][1].text == "a dog"
    (tmp_path / "t.toml").write_text('pattern = "{who} rests"\nwho = ["a", "b"]\n', encoding=encoding)
    assert story_writer(str(tmp_path / "t.toml"))


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for path, words in ((tmp_path / "pipe.toml", "a pipe or a device"), (Path("/dev/zero"), "a pipe or a device"),
                        (tmp_path, "a folder"), (tmp_path / "none.toml", "no such file")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            read_text(path)
    with pytest.raises(ScriptError, match="a pipe or a device"):
        read_script_file(tmp_path / "pipe.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML"),
    ],
)
def test_broken_toml_is_one_sentence(tmp_path, text, words):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_toml(tmp_path / "a.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "words"), [("[" * 100000, "nested too deeply"), ("[]", "a list"), ("{", "Expecting")])
def test_json_that_is_no_object_is_a_value_error(text, words):
    assert json_object('{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match=words):
        json_object(text)


@pytest.mark.parametrize("value", ["9" * 400, "1e308", "true", "nan", "-1"])
@pytest.mark.parametrize("key", ["seconds", "at"])
def test_a_second_of_a_script_is_a_number_that_a_video_can_have(tmp_path, key, value):
    (tmp_path / "s.toml").write_text(f'[[scene]]\nprompt = "a"\n[[scene]]\nprompt = "b"\n{key} = {value}')
    with pytest.raises(ScriptError, match=f"{key} must be"):
        read_script_file(tmp_path / "s.toml")


def test_a_notice_is_a_warning_in_python_and_one_note_on_the_command_line(capsys):
    with pytest.warns(InputWarning, match="the prompt is cut"):
        notice("the prompt is cut")
    with warnings.catch_warnings(), printed_notes():
        notice("the prompt is cut")
        notice("the prompt is cut")
        with pytest.warns(UserWarning):
            warnings.warn("of a library", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "note: the prompt is cut\n"
