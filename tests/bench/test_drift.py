"""The drift bench: its configs of training differ in errors alone, and its report compares the arms."""

import importlib.util
import json
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from longtake.media.video_reader import timed_frames
from longtake.train.objectives.error_recycling_config import ErrorRecyclingConfig
from longtake.train.toml_config import changes, read_table

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_drift", BENCH / "drift.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_drift", module)
    spec.loader.exec_module(module)
    return module


def test_configs_of_training_differ_in_errors_alone():
    table = lambda name: tomllib.loads((BENCH / f"drift-{name}.toml").read_text())
    differ = lambda one, other: {line.split()[0].removeprefix("error_recycling.") for line in changes(one, other)}
    erft, plain, rounds, blocks = (table(name) for name in ("erft", "plain", "rounds", "causal-rounds"))
    assert changes(erft, plain) == ['error_recycling.preset was "svi-film", now "none"']
    errors = {
        f"errors.{name}" for name in ("video_prob", "noise_prob", "context_prob", "clean_prob", "context_latents")
    }
    own = {f"rounds.{name}" for name in ("count", "repeats", "num_inference_steps")}
    assert differ(rounds, table("rounds-plain")) == {"preset", "rounds.through_vae", *errors, *own}
    assert differ(blocks, table("causal-plain")) == {"preset", "rounds.guidance", "rounds.max_sigma", *errors, *own}
    for config in (rounds, table("rounds-plain")):
        assert not read_table(ErrorRecyclingConfig, config["error_recycling"], "error_recycling").needs_bank


def drifting(metrics, slope, moves):
    """Curves (8 videos, 5 segments) that rise by about `slope` per segment."""
    rng = torch.Generator().manual_seed(1)
    share = slope * (1 + 0.1 * torch.randn(8, 1, generator=rng))
    curves = {name: share * torch.arange(5.0) for name in metrics}
    return {**curves, "follows": torch.full((8, 5), moves)}


def test_the_report_compares_every_arm_with_the_first_and_with_named_ones(bench):
    import drift_report as bench_report

    found = {
        "base": drifting(bench.METRICS, 0.1, 1.0),
        "plain": drifting(bench.METRICS, 0.08, 1.0),
        "erft": drifting(bench.METRICS, 0.02, 0.75),
    }
    text = bench_report.report(found, ["plain"])
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles[-3:] == ["plain against base", "erft against base", "erft against plain"]
    part = text.split("## erft against base")[1].split("##")[0]
    assert part.count("| 0.200 (0.200 to 0.200) |") == len(bench.METRICS)
    assert "Segments that move as the prompt says: -25.000 (-25.000 to -25.000) points more." in part
    assert "| 100.000 (100.000 to 100.000) | 100.000 (100.000 to 100.000) | 75.000 (75.000 to 75.000) |" in text


def test_only_videos_finished_by_every_arm_count_and_a_torn_line_does_not(bench, tmp_path):
    arms = [bench.Arm.read(text) for text in ("a=pocket", "b=pocket,strategy=relay,overlap=1,lora=x.safetensors")]
    assert arms[1].strategy == "relay" and arms[1].options == {"overlap": 1} and arms[1].lora == "x.safetensors"
    row = dict.fromkeys((*bench.METRICS, "follows"), 0.5)
    lines = [
        json.dumps({"arm": arm, "seed": seed, "segment": segment, **row})
        for arm, seed in (("a", 5), ("b", 5), ("a", 6))
        for segment in range(2)
    ]
    (tmp_path / "segments.jsonl").write_text("\n".join(lines) + '\n{"arm": "b", "se')
    found = bench.curves([tmp_path], ["a", "b"], 2)
    assert {name: curve["colour"].shape for name, curve in found.items()} == {"a": (1, 2), "b": (1, 2)}
    more = tmp_path / "more"
    more.mkdir()
    rows = [json.dumps({"arm": arm, "seed": 9, "segment": segment, **row}) for arm in "ab" for segment in range(2)]
    (more / "segments.jsonl").write_text("\n".join(rows))
    (tmp_path / "settings.json").write_text(json.dumps({"arms": [{"name": "a"}, {"name": "b"}], "segments": 2}))
    assert {name: curve["shape"].shape for name, curve in bench.joined([tmp_path, more]).items()} == {
        "a": (2, 2), "b": (2, 2),
    }  # fmt: skip


def test_a_film_is_kept_as_video_and_strip(bench, tmp_path):
    film = bench.Film(tmp_path, "5-a", bench.Fraction(24))
    for _ in range(2):
        film.add(torch.rand(bench.FRAMES, 3, 64, 64))
    film.close("a red ball")
    frames = [stamp for stamp, _ in timed_frames(tmp_path / "videos" / "5-a.mp4")]
    assert len(frames) == 2 * bench.FRAMES and (tmp_path / "strips" / "5-a.png").exists()


def test_a_folder_measured_with_other_metrics_is_refused_by_name(bench, tmp_path):
    row = {**dict.fromkeys([*bench.METRICS][1:], 0.0), "follows": 1.0, "arm": "a", "seed": 5, "segment": 0}
    (tmp_path / "segments.jsonl").write_text(json.dumps(row))
    with pytest.raises(SystemExit, match=f"measured without {next(iter(bench.METRICS))}"):
        bench.curves([tmp_path], ["a"], 1)
