"""LoRA files of a run: found from where they were named, the same ones when it goes on."""

from __future__ import annotations

import json
import os

import pytest
import torch

from longtake.cli import run
from longtake.core.errors import ScriptError
from longtake.models.lora.layers import inject, save
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.pipelines.settings import loras as lora_files
from longtake.planning.script import Scene, Script
from tests.checkpoints import random_wan


def lora(path, seed=0):
    torch.manual_seed(seed)
    net = WanTransformer(tiny(max_latent_frames=9))
    inject(net, 2, 2.0, ["to_q"])
    for name, weight in net.named_parameters():
        if ".up." in name:
            weight.data.normal_()
    return save(net, path)


def said(capsys, *arguments):
    code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err.strip()


def test_a_resume_takes_the_same_loras_or_none(tmp_path, capsys, monkeypatch):
    import longtake.cli.progress as progress
    from longtake.core.platform import Stopped
    from longtake.runs import SegmentWritten

    model, saw = random_wan(tmp_path / "m"), progress.LineOutput.show
    (tmp_path / "styles").mkdir()
    file = lora(tmp_path / "styles" / "ink.safetensors")
    script = tmp_path / "styles" / "s.toml"
    script.write_text('[[scene]]\nprompt = "a red ball"\nseconds = 3\nlora = { "ink.safetensors" = 0.5 }\n')
    asked = ["generate", "--script", "styles/s.toml", "--model", str(model), "--threads", "1", "--steps", "1",
             "--strategy", "relay", "--overlap", "5", "--guidance", "1"]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run([*asked, "-o", "whole"]) == 0

    def stop(self, event):
        saw(self, event)
        if isinstance(event, SegmentWritten) and event.index == 0:
            raise Stopped(2)

    with monkeypatch.context() as patch:
        patch.setattr(progress.LineOutput, "show", stop)
        assert run([*asked, "-o", "cut"]) == 130
    recorded = json.loads((tmp_path / "cut" / "run.json").read_text())["settings"]["loras"]
    assert recorded == {str(file.resolve()): lora_files.sha256(file)}
    whole = file.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lora(file, seed=1)
    capsys.readouterr()
    code, error = said(capsys, "resume", tmp_path / "cut")
    assert code == 2 and "was changed since this run started: put back the file of SHA-256" in error
    file.unlink()
    code, error = said(capsys, "resume", tmp_path / "cut")
    assert code == 2 and "is gone: put it back" in error
    file.write_bytes(whole)
    assert run(["resume", str(tmp_path / "cut")]) == 0
    assert (tmp_path / "cut" / "video.mp4").read_bytes() == (tmp_path / "whole" / "video.mp4").read_bytes()
    code, error = said(capsys, "generate", "a", "--model", model, "--lora", "none.safetensors", "-o", tmp_path / "n")
    assert code == 2 and "none.safetensors cannot be read" in error and not (tmp_path / "n").exists()


def test_a_pipe_or_a_link_to_itself_is_no_lora(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (("pipe", "it is a pipe or a device"), ("loop", "too many levels of symbolic links")):
        code, error = said(capsys, "generate", "a", "--lora", tmp_path / name, "-o", tmp_path / "out")
        assert code == 2 and f"{tmp_path / name} cannot be read: {reason}" in error and not (tmp_path / "out").exists()


def test_flags_are_for_all_scenes_and_paths_are_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "part.bin").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    timeline = Script.of([Scene("x", lora=(("a", 0.5),)), Scene("y")], 24)
    placed = lora_files.placed(timeline, [("b", 2.0), ("a", 1.0)])
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert [dict(scene.lora) for scene in placed.scenes] == [{a: 0.5, b: 2.0}, {a: 1.0, b: 2.0}]
    known = lora_files.hashes(placed)
    assert set(known) == {a, b}
    lora_files.check_unchanged(known)
    (tmp_path / "a" / "part.bin").rename(tmp_path / "a" / "other.bin")
    with pytest.raises(ScriptError, match="was changed"):
        lora_files.check_unchanged(known)
    assert lora_files.placed(Script.of([Scene("x")], 24)) == Script.of([Scene("x")], 24)


def test_a_lora_flag_holds_a_file_and_a_strength():
    assert lora_files.strength_of("ink.safetensors") == ("ink.safetensors", 1.0)
    assert lora_files.strength_of("ink.safetensors=0.8") == ("ink.safetensors", 0.8)
    assert lora_files.strength_of("a=b.safetensors") == ("a=b.safetensors", 1.0)
    for wrong in ("=0.8", "a=nan", "a=inf"):
        with pytest.raises(ScriptError, match="a file and a strength"):
            lora_files.strength_of(wrong)


def test_a_script_of_another_rate_is_refused():
    timeline = Script.of([Scene("x", 2.0)], 24)
    assert Script.of(timeline, 24) is timeline
    with pytest.raises(ScriptError, match="counts frames at 24 per second, but the video has 16"):
        Script.of(timeline, 16)
    assert Script.of(Script.from_facts(timeline.facts()), 16).frames == 48, (
        "one that does not know is taken at its word"
    )
