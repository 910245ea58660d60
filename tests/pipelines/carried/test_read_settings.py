"""The settings in a file are untrusted: bounded, parsed strictly, and nothing that they name is opened."""

from __future__ import annotations

import contextlib
import copy
import json

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import longtake
from longtake.cli import run
from longtake.core.errors import InputError, LongtakeError
from longtake.core.process.notices import InputWarning
from longtake.media.finished.save_video import save_video
from longtake.media.metadata import read_tags
from longtake.pipelines.carried.again import keywords_again
from longtake.pipelines.carried.file_report import file_report
from longtake.pipelines.carried.video_settings import settings_of

FRAMES = [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 90, 200)]


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What a call of the toy model carries, with all that can be in it."""
    path = tmp_path_factory.mktemp("made") / "x.mp4"
    longtake.load("clock")("a red ball", num_frames=9, steps=1, seed=3).save(path)
    found = json.loads(read_tags(path)["comment"])
    sha256 = "0" * 64
    return found | {
        "loras": {"ink.safetensors": sha256}, "inputs": {"image": {"name": "star.png", "sha256": sha256}, "pixels": sha256},
        "script": {"scenes": [{"prompt": "a", "lora": [["high:ink.safetensors", 0.5]]}], "starts": [0], "frames": 9},
        "load": {"dtype": "bf16"},
    }  # fmt: skip


def written(folder, facts, name="x.mp4"):
    text = facts if isinstance(facts, str) else json.dumps(facts)
    return save_video(folder / name, iter(FRAMES), 24, comment=text)


def test_a_file_says_what_made_it(facts, tmp_path, capsys):
    path = written(tmp_path, facts)
    found = longtake.read_settings(path)
    assert found.model == "clock" and found.frames == 9 and found.settings.seed == 3 and not found.newer
    assert [(one.kind, one.name) for one in found.needed] == [("image", "star.png"), ("lora", "ink.safetensors")]
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "made by longtake" in text and "seed=3" in text and "--image star.png --lora ink.safetensors" in text
    assert run(["inspect", str(path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == facts
    with pytest.raises(longtake.SettingsError, match=r"give image star.png \(SHA-256 000000000000…\), lora ink"):
        longtake.keywords_like(path)


def test_unknown_keys_and_newer_schemas_are_kept_and_named(facts, tmp_path, capsys):
    newer = copy.deepcopy(facts) | {"longtake": 99, "colour": {"deep": [1]}}
    newer["sampling"]["hue"], newer["script"]["scenes"][0]["mood"] = 5, "calm"
    del newer["script"]["scenes"][0]["lora"], newer["loras"], newer["inputs"]
    path = written(tmp_path, newer)
    found = longtake.read_settings(path)
    assert found.unknown == ("colour", "sampling.hue", "script.scenes.mood") and found.newer
    assert found.facts == newer
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "sampling.hue" in text and "newer" in text
    with pytest.warns(InputWarning) as seen:
        longtake.keywords_like(path)
    assert {"schema 99", "script.scenes.mood"} <= {
        word for one in seen for word in ("schema 99", "script.scenes.mood") if word in str(one.message)
    }
    newer["strategy"] = "teleport"
    report = file_report(written(tmp_path, newer))
    assert not report.found and "a newer version of longtake wrote them" in report.problem and report.carried == newer


def wrong(facts):
    """Yield objects that no version of longtake wrote, each by what is wrong."""
    for name, value in {
        "longtake": -1, "model": "pocket", "script": {"scenes": "x"}, "sampling": [], "strategy": 5, "loras": {"a": "b"},
        "inputs": {"image": "/etc/passwd"}, "video": [], "machine": 7, "load": {"step_cache_calibration": "/etc/passwd"},
        "strategy_options": {"overlap": -5},
    }.items():  # fmt: skip
        yield f"{name} {value}", {**facts, name: value}
    for name, value in {
        "num_inference_steps": 10**9,
        "seed": "x",
        "solver": "/bin/sh",
        "fps": None,
        "fps ": 24,
    }.items():
        yield (
            name,
            {**facts, "sampling": {**facts["sampling"], name.strip(): value} if name[-1] != " " else {"fps": "24"}},
        )
    for scene in (
        {},
        {"prompt": 5},
        {"prompt": "a", "lora": [["x", 1]]},
        {"prompt": "a", "lora": [["/etc/passwd", 1]]},
    ):
        yield f"scene {scene}", {**facts, "script": {"scenes": [scene], "starts": [0], "frames": 9}}


def test_wrong_values_are_refused_in_one_sentence(facts, tmp_path, monkeypatch):
    cases = list(wrong(facts))
    path = written(tmp_path, facts)
    opened = []
    monkeypatch.setattr("builtins.open", lambda *a, **k: opened.append(a) or (_ for _ in ()).throw(AssertionError(a)))
    for name, broken in cases:
        with pytest.raises(longtake.SettingsError, match="its settings cannot be used") as error:
            settings_of(path, broken)
        assert "\n" not in str(error.value), name
    assert not opened


def test_texts_that_are_no_settings(tmp_path, capsys):
    texts = ["", "holiday 2025", "[1]", '{"longtake": NaN}', "[" * 10**5, "{" * 10**5, '{"a": ' + "1" * 10**5 + "}"]
    for number, text in enumerate(texts):
        path = written(tmp_path, text, f"{number}.mp4")
        with pytest.raises(longtake.SettingsError, match="carries no settings"):
            longtake.read_settings(path)
        assert run(["inspect", str(path)]) == 1
        assert "carries no settings" in capsys.readouterr().out
    for name in ("none.mp4", "no.webp"):
        (tmp_path / name).write_bytes(b"RIFF" if name == "no.webp" else b"\0" * 40)
        assert run(["inspect", str(tmp_path / name)]) != 0 and "cannot be read as a" in capsys.readouterr().err
    with pytest.raises(longtake.MediaError):
        longtake.read_settings(tmp_path / "absent.mp4")


def test_escape_sequences_do_not_reach_the_terminal(facts, tmp_path, capsys):
    evil = "\x1b]0;owned\x07 \x1b[2J\u202e \n again: rm -rf"
    facts = facts | {"script": {"scenes": [{"prompt": evil}], "starts": [0], "frames": 9}, "loras": {}, evil: evil}
    path = written(tmp_path, facts)
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not any(line.startswith(" again: rm") for line in text.splitlines())


def test_tags_that_are_not_utf_8_are_read_by_every_reader(tmp_path):
    path = written(tmp_path, "ABCDEFGH")
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\xe4ABCDE"))
    with pytest.raises(UnicodeDecodeError), av.open(str(path)):
        pass
    assert read_tags(path)["comment"].endswith("ABCDE")
    frames = [frame for frame in longtake.generate("a", "clock", video=path, num_frames=2, steps=1, fps=24)]
    assert sum(map(len, frames)) > 2


def test_a_script_that_is_too_long_is_left_out_and_asked_for(tmp_path):
    pipe = longtake.load("clock")
    scenes = [longtake.Scene(f"{number} " + "x" * 60_000, 1.0) for number in range(20)]
    result = pipe(scenes=scenes, steps=1)
    with pytest.warns(InputWarning, match="all settings but the script"):
        result.save(tmp_path / "long.mp4")
    found = longtake.read_settings(tmp_path / "long.mp4")
    assert found.script is None and found.facts["left_out"] == ["script"] and found.frames == 480
    with pytest.raises(longtake.SettingsError, match="too long for its file"):
        longtake.keywords_like(tmp_path / "long.mp4")
    keywords = longtake.keywords_like(tmp_path / "long.mp4", prompt="another", num_frames=5)
    assert pipe(**keywords).frames[0].shape[0] == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(facts, tmp_path, data):
    broken = copy.deepcopy(facts)
    table = broken
    while True:
        name = data.draw(st.sampled_from(sorted(table)))
        if not (isinstance(table[name], dict) and table[name] and data.draw(st.booleans())):
            break
        table = table[name]
    table[name] = data.draw(JSON)
    try:
        found = settings_of(tmp_path / "x.mp4", broken)
    except InputError:
        return
    for read in (found.needed, found.script, found.frames, found.threads, found.machine):
        repr(read)
    with contextlib.suppress(LongtakeError):
        keywords_again(found, {})


def test_numbers_of_more_than_64_bits_are_no_settings(facts, tmp_path):
    for path in (("longtake",), ("video", "frames"), ("sampling", "fps"), ("sampling", "seed")):
        changed = copy.deepcopy(facts)
        table = changed if len(path) == 1 else changed[path[0]]
        table[path[-1]] = 10**400
        report = file_report(written(tmp_path, changed))
        assert not report.found and report.lines()
