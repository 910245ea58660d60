"""The drift bench: its two trainings differ in errors alone, and its report compares what it should."""

import importlib.util
import json
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from longtake.eval.drift import METRICS
from longtake.train.config import changes, read_table
from longtake.train.recipes.i2v import I2vConfig
from longtake.train.recipes.recycle import RecycleConfig
from longtake.train.settings import Settings

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_drift", BENCH / "drift.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_drift", module)
    spec.loader.exec_module(module)
    return module


def test_both_trainings_are_alike_but_for_the_errors():
    erft, plain = (tomllib.loads((BENCH / f"drift-{name}.toml").read_text()) for name in ("erft", "plain"))
    assert changes(erft, plain) == ['recycle.preset was "svi-film", now "none"']
    rounds, without = (tomllib.loads((BENCH / f"drift-{n}.toml").read_text()) for n in ("rounds", "rounds-plain"))
    assert {line.split()[0] for line in changes(rounds, without)} == {
        f"recycle.{n}"
        for n in ["preset", "video", "noise", "told", "clean", "rounds", "repeats", "calls", "frames", "codec"]
    }
    blocks, clean = (tomllib.loads((BENCH / f"drift-causal-{n}.toml").read_text()) for n in ("rounds", "plain"))
    errors = ["preset", "video", "noise", "told", "clean", "rounds", "repeats", "calls", "guidance", "depth", "frames"]

    assert {line.split()[0] for line in changes(blocks, clean)} == {f"recycle.{n}" for n in errors}
    assert not read_table(RecycleConfig, rounds["recycle"], "recycle").remembers
    assert not read_table(RecycleConfig, without["recycle"], "recycle").remembers
    read_table(Settings, erft["loop"], "loop")
    read_table(I2vConfig, read_table(RecycleConfig, erft["recycle"], "recycle").settings, "settings")


def drifting(slope, moves):
    """Curves (8 videos, 5 clips) that rise by `slope` per clip, a little differently in every video."""
    chance = torch.Generator().manual_seed(1)
    share = slope * (1 + 0.1 * torch.randn(8, 1, generator=chance))
    curves = {name: share * torch.arange(5.0) for name in METRICS}
    return {**curves, "moves": torch.full((8, 5), moves)}


def test_the_report_has_every_arm_against_the_first_and_those_asked_for(bench):
    found = {"base": drifting(0.1, 1.0), "plain": drifting(0.08, 1.0), "erft": drifting(0.02, 0.75)}
    text = bench.report(found, ["plain"])
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles[-3:] == ["plain against base", "erft against base", "erft against plain"]
    part = text.split("## erft against base")[1].split("##")[0]
    assert part.count("| 0.200 (0.200 to 0.200) |") == len(METRICS)
    assert "Clips that move as told: -25.000 (-25.000 to -25.000) points more." in part
    assert "| 100.000 (100.000 to 100.000) | 100.000 (100.000 to 100.000) | 75.000 (75.000 to 75.000) |" in text


def test_only_videos_that_every_arm_has_made_count_and_a_torn_line_does_not(bench, tmp_path):
    arms = [bench.Arm.read(text) for text in ("a=pocket", "b=pocket,plan=relay,overlap=1,lora=x.safetensors")]
    assert arms[1].plan == "relay" and arms[1].options == {"overlap": 1} and arms[1].lora == "x.safetensors"
    row = dict.fromkeys((*METRICS, "moves"), 0.5)
    lines = [
        json.dumps({"arm": arm, "seed": seed, "clip": clip, **row})
        for arm, seed in (("a", 5), ("b", 5), ("a", 6))
        for clip in range(2)
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(lines) + '\n{"arm": "b", "se')
    found = bench.curves([tmp_path], ["a", "b"], 2)
    assert {name: curve["colour"].shape for name, curve in found.items()} == {"a": (1, 2), "b": (1, 2)}
    more = tmp_path / "more"
    more.mkdir()
    rows = [json.dumps({"arm": arm, "seed": 9, "clip": clip, **row}) for arm in "ab" for clip in range(2)]
    (more / "clips.jsonl").write_text("\n".join(rows))
    (tmp_path / "settings.json").write_text(json.dumps({"arms": [{"name": "a"}, {"name": "b"}], "clips": 2}))
    assert {name: curve["shape"].shape for name, curve in bench.joined([tmp_path, more]).items()} == {
        "a": (2, 2), "b": (2, 2),
    }  # fmt: skip


def test_a_film_is_kept_as_video_and_strip(bench, tmp_path):
    film = bench.Film(tmp_path, "5-a", bench.Fraction(24))
    for _ in range(2):
        film.add(torch.rand(bench.CLIP, 3, 64, 64))
    film.close("a red ball")
    frames = [stamp for stamp, _ in bench.media.read(tmp_path / "videos" / "5-a.mp4")]
    assert len(frames) == 2 * bench.CLIP and (tmp_path / "strips" / "5-a.png").exists()
