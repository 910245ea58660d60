"""Scripts: timelines that tile, files that are read or refused in one sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import ScriptError
from longtake.planning.script import Scene, Script
from longtake.planning.script_files import load_script

lengths = st.one_of(st.none(), st.floats(0.2, 100))


@given(st.lists(st.tuples(lengths, st.booleans()), min_size=1, max_size=8), st.sampled_from([8.0, 16.0, 24.0, 29.97]))
def test_scenes_and_shots_tile_the_timeline(rows, fps):
    script = Script.of([Scene(f"p{i}", s, cut) for i, (s, cut) in enumerate(rows)], fps)
    assert script.starts[0] == 0
    assert list(script.starts) == sorted(set(script.starts))
    for i, start in enumerate(script.starts):
        assert script.at(start) is script.scenes[i]
        assert script.at(start - 1 if i else 0) is script.scenes[max(0, i - 1)]
    shots = list(script.shots())
    assert shots[0].first == 0
    assert sum(shot.frames for shot in shots) == script.frames
    assert Script.from_facts(script.facts()) == script


def test_a_length_is_shared():
    script = Script.of([Scene("a"), Scene("b", 4.0), Scene("c")], 24, seconds=10)
    assert script.starts == (0, 72, 168)
    assert script.frames == 240


def test_endless():
    script = Script.of([Scene("a", 1.0), Scene("b", 1.0, cut=True)], 24, endless=True)
    assert script.frames is None
    assert [(s.first, s.frames) for s in script.shots()] == [(0, 24), (24, None)]
    assert script.at(10**9).prompt == "b"


def test_a_short_video_ends_early():
    assert Script.of([Scene("a", 5.0), Scene("b", 5.0)], 24, seconds=2).scenes == (Scene("a", 5.0),)


def test_text_file(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text("a red ball\n\n# a remark\n  a blue ball \n")
    assert [s.prompt for s in load_script(path, 24).scenes] == ["a red ball", "a blue ball"]


def test_toml_file(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[scene]]\nprompt = "a"\n[[scene]]\nat = 3\nprompt = "b"\nseconds = 2\ncut = true\n')
    script = load_script(path, 24)
    assert script.scenes == (Scene("a", 3.0), Scene("b", 2, True))
    assert (script.starts, script.frames) == ((0, 72), 120)


def test_loras(tmp_path):
    """A table, a list, or both kinds of rows; files are found from the script's folder; `at` keeps them."""
    path = tmp_path / "s.toml"
    path.write_text(
        '[[scene]]\nprompt = "a"\nlora = { "x.safetensors" = 0.8, "/l/y.safetensors" = -1 }\n'
        '[[scene]]\nat = 3\nprompt = "b"\nlora = ["x.safetensors", ["z.safetensors", 0.5]]\n'
        '[[scene]]\nat = 5\nprompt = "c"\n'
    )
    script = load_script(path, 24)
    here = lambda name: str(tmp_path / name)
    assert [scene.lora for scene in script.scenes] == [
        ((here("x.safetensors"), 0.8), ("/l/y.safetensors", -1.0)),
        ((here("x.safetensors"), 1.0), (here("z.safetensors"), 0.5)),
        (),
    ]
    assert [scene.seconds for scene in script.scenes] == [3.0, 2.0, None]
    assert Scene("a", lora={"x": 1}) == Scene("a", lora=["x"]) == Scene("a", lora=(("x", 1.0),))
    facts = json.loads(json.dumps(script.facts()))
    assert Script.from_facts(facts) == script
    assert "lora" not in facts["scenes"][2]  # so that records from before there were LoRAs read and compare as they did


BAD = {
    "unknown key": ('[[scene]]\npromt = "a"', "unknown key 'promt': did you mean 'prompt'"),
    "unknown table": ('[[scenes]]\nprompt = "a"', "unknown key 'scenes': did you mean 'scene'"),
    "no prompt": ("[[scene]]\nseconds = 2", "scene 1 has no prompt"),
    "a number as a prompt": ("[[scene]]\nprompt = 5", "the prompt of a scene is a text in quotes, not 5"),
    "backwards": (
        '[[scene]]\nprompt="a"\n[[scene]]\nat=5\nprompt="b"\n[[scene]]\nat=4\nprompt="c"',
        "times must go forward",
    ),
    "overlapping": ('[[scene]]\nprompt="a"\nseconds=3\n[[scene]]\nat=2\nprompt="b"', "times must go forward"),
    "late start": ('[[scene]]\nat = 2\nprompt="a"', "begins at 0"),
    "negative": ('[[scene]]\nprompt="a"\nseconds=-1', "positive"),
    "nan": ('[[scene]]\nprompt="a"\nseconds=nan', "positive"),
    "no toml": ("[[scene", "s.toml"),
    "no scenes": ("", "no scenes"),
    "wrong type": ('scene = "a"', "tables"),
    "lora as text": ('[[scene]]\nprompt="a"\nlora="x.safetensors"', "scene 1: scene 'a': lora is a table such as"),
    "lora without a file": ('[[scene]]\nprompt="a"\nlora=[" "]', "a LoRA is a file, or a file and a strength, not ' '"),
    "lora of three": ('[[scene]]\nprompt="a"\nlora=[["x", 1, 2]]', "a LoRA is a file"),
    "lora strength": ('[[scene]]\nprompt="a"\nlora={x = "strong"}', "the strength of x must be a number such as 0.8"),
    "lora strength nan": ('[[scene]]\nprompt="a"\nlora={x = nan}', "must be a number"),
    "lora strength true": ('[[scene]]\nprompt="a"\nlora={x = true}', "must be a number"),
    "lora twice": ('[[scene]]\nprompt="a"\nlora=["x", ["x", 0.5]]', "x is named twice"),
    "cut": ('[[scene]]\nprompt="a"\ncut=1', "cut is true, false, anchor or resample"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ScriptError) as error:
        load_script(path, 24)
    assert message in str(error.value)


def test_other_refusals(tmp_path):
    for source, options, message in (
        (tmp_path / "none.txt", {}, "cannot read"),
        (tmp_path / "s.yaml", {}, "a script is"),
        ([Scene("a", 9.0), Scene("b")], {"seconds": 5}, "nothing is left"),
        ([Scene("a", 0.001), Scene("b")], {}, "shorter than one frame"),
    ):
        with pytest.raises(ScriptError) as error:
            load_script(source, 24, **options)
        assert message in str(error.value)
    for bad in (0, -3, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            Script.of("a", 24, seconds=bad)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    """No input ends in anything but a script or a ScriptError."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".txt", ".toml"):
            path = Path(folder) / f"s{suffix}"
            path.write_text(text, encoding="utf-8")
            try:
                assert load_script(path, 24).frames > 0
            except ScriptError as error:
                assert str(error)


def test_anchors_and_abrupt_prompts(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('abrupt = 0.3\n[[scene]]\nprompt = "a"\n[[scene]]\nprompt = "b"\ncut = "anchor"\n')
    script = load_script(path, 24)
    assert script.abrupt == 0.3 and script.scenes[1].cut == "anchor"
    assert Script.from_facts(json.loads(json.dumps(script.facts()))) == script
    path.write_text('abrupt = 3\n[[scene]]\nprompt = "a"\n')
    with pytest.raises(ScriptError, match=r"from 0 .* to 2"):
        load_script(path, 24)
