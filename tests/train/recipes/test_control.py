"""Control signals: a network is conditioned on them, learns to follow them, and gets them sliced clip by clip."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.cli import run
from longtake.core.errors import PlanError
from longtake.engine.build import build_rollout
from longtake.engine.control import ControlSignal
from longtake.engine.events import Frames, WindowDone
from longtake.engine.inputs import RolloutInputs
from longtake.eval import control as driven
from longtake.eval.control import correlation, unseen_clips
from longtake.models import load
from longtake.models.wan.config import tiny
from longtake.models.wan.transformer import WanTransformer
from longtake.planning.script import Scene, Script
from longtake.planning.strategies.registry import make_plan
from longtake.pocket import Clip, Facts, parse
from longtake.pocket import Scene as PocketScene
from longtake.pocket.clips import Source
from longtake.train.datasets.pocket import PocketLatents
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.image_to_video import control_signals
from longtake.train.recipes.registry import RECIPES
from longtake.train.weights.init_weights import network

NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
    num_layers=1, max_latent_frames=9,
)  # fmt: skip
SHORT = LoopConfig.of(steps=1, lr=3e-3, warmup=3, save_every=0, log_every=30)
SOURCE = dict(frames=33, switch=0.0, drive="path")
GIVEN = {"counts": (1,), "weights": (1.0,)}


def quiet(line):
    pass


def mean(loss):
    return loss.total / loss.weight


@pytest.fixture(scope="module")
def table(tiny_parts, tmp_path_factory):
    """The table of an image-to-video run whose clips follow a path, with their latents encoded."""
    folder = tmp_path_factory.mktemp("control")
    torch.manual_seed(0)
    table = dict(
        text=str(tiny_parts.text), vae=str(tiny_parts.vae), clips=6, source=SOURCE, frames=36,
        length_schedule=((1.0, (9,)),), eval_prompts=0, prefix=GIVEN,
        network={**NETWORK, "in_channels": 12, "control_dim": 8},
    )  # fmt: skip
    RECIPES["image_to_video"].make(table, folder, RECIPES)
    return {**table, "data": str(folder / "latents")}


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """A run in which the latents themselves are made to show what drives them, so that little training is enough."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("trained")
    recipe = RECIPES["image_to_video"].make(table, out, RECIPES)
    data = recipe.video.data
    rows = control_signals(data, list(data.clips), 9, 4).unflatten(2, (4, 2)).mean(2)
    data.latents.copy_(4 * rows.repeat(1, 1, 2).transpose(1, 2)[..., None, None])
    train(recipe, SHORT.with_changes(steps=40, lr=1e-2, ema=0.5), out, quiet, {"image_to_video": table})
    return recipe, out


# ---------------------------------------------------------------- the world
@pytest.mark.parametrize("drive", ["voice", "path"])
def test_a_sprite_follows_what_drives_it_and_no_caption_says_how(drive):
    one, other = unseen_clips(drive, 2)
    shown = one.rendered(49)
    assert correlation(shown, one.signal(49)) > 0.95 > 0.7 > correlation(shown, other.signal(49))
    assert parse(one.text)["motion"] == "still"
    assert correlation(torch.zeros(20, 3, 64, 64), one.signal(20)) == 0.0


def test_any_part_of_a_track_is_as_in_the_whole():
    clip = Clip((PocketScene(Facts("red", "star", "still", "sea")),), 7, drive="voice")
    assert np.array_equal(clip.control_signal(0, 60)[20:40], clip.control_signal(20, 40))
    assert clip.control_signal(0, 500).min() >= 0 and 0.8 < clip.control_signal(0, 500).max() <= 1
    with pytest.raises(ValueError, match="choose voice or path"):
        replace(clip, drive="wind")
    with pytest.raises(ValueError, match="one scene"):
        replace(clip, scenes=(*clip.scenes, PocketScene(clip.scenes[0].facts, 9)))
    with pytest.raises(ValueError, match=r"with switch = 0\.0"):
        Source(drive="voice")


def test_a_source_that_drives_nothing_is_recorded_as_before(table):
    assert Source().facts() == {"frames": 121, "switch": 0.3, "seed": 0}
    assert PocketLatents(Path(table["data"])).source == Source(**SOURCE)


# ---------------------------------------------------------------- the network
def test_new_control_weights_change_nothing_at_first_and_the_signal_is_optional():
    net = WanTransformer(tiny(control_dim=8)).eval()
    x, text, sigma = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 5, 10), torch.full((3,), 0.5)
    rows = torch.randn(3, 8)
    plain = net(x, sigma, text)
    assert torch.equal(net(x, sigma, text, control=rows), plain)
    torch.nn.init.normal_(net.condition_embedder.control_embedder.linear_2.weight)
    controlled = net(x, sigma, text, control=rows)
    assert not torch.allclose(controlled, plain) and torch.equal(net(x, sigma, text), plain)
    assert torch.allclose(net(x, sigma, text, control=rows.expand(2, 3, 8)), controlled)
    with pytest.raises(ValueError, match="takes no control signal"):
        WanTransformer(tiny())(x, sigma, text, control=rows)


def test_a_network_gains_a_control_signal_and_keeps_its_weights(trained):
    _, out = trained
    lines = []
    plain = {"in_channels": 12}
    network({**plain, "control_dim": 8}, str(out), lines.append)
    assert "control_dim" not in lines[0]
    grown, _ = network({"control_dim": 4}, "pocket", lines.append)
    assert lines[-1].endswith("control_dim 4 is new and starts without effect")
    assert not grown.condition_embedder.control_embedder.linear_2.weight.any()
    with pytest.raises(ValueError, match="control_dim 8, not 4"):
        network({**plain, "control_dim": 4}, str(out), lines.append)


# ---------------------------------------------------------------- training
def test_the_network_follows_its_control_signal(trained):
    """With the signals of other clips, a trained network has a higher loss on the same noise."""
    recipe, _ = trained
    right = wrong = 0.0
    with torch.no_grad():
        for seed in range(3):
            sample = next(s for n in range(9) if (s := recipe.draw(n, rng(10 * seed + n))).control is not None)
            right += float(mean(recipe.video.loss(sample)))
            wrong += float(mean(recipe.video.loss(replace(sample, control=sample.control.roll(1, 0)))))
    assert right < 0.8 * wrong, (right, wrong)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def test_a_sample_has_the_signal_of_its_clip_or_none(table, tmp_path):
    recipe = RECIPES["image_to_video"].make({**table, "control_dropout": 0.4}, tmp_path, RECIPES)
    samples = [recipe.draw(0, rng(seed)) for seed in range(60)]
    share = sum(sample.control is None for sample in samples) / 60
    assert 0.4 - 0.25 < share < 0.4 + 0.25
    rows = control_signals(recipe.video.data, [0], 3, 4)[0].unflatten(1, (4, 2))
    clip = torch.from_numpy(recipe.video.data.clips[0].control_signal(0, 9)).float()
    assert torch.equal(rows[0], clip[:1].expand(4, 2)) and torch.equal(rows[1:].flatten(0, 1), clip[1:])


def test_a_network_must_match_the_control_signal_of_the_clips(table, tmp_path):
    with pytest.raises(ValueError, match="set control_dim = 8"):
        RECIPES["image_to_video"].make({**table, "network": {**NETWORK, "in_channels": 12}}, tmp_path, RECIPES)
    with pytest.raises(ValueError, match="these clips have no control signal"):
        RECIPES["image_to_video"].make({**table, "data": "", "source": dict(frames=33), "clips": 1}, tmp_path, RECIPES)


# ---------------------------------------------------------------- a chain of clips
def frames_of(making):
    return torch.cat([event.video for event in making.run() if isinstance(event, Frames)], 2)


def test_a_finished_model_follows_its_signal_clip_by_clip_and_resumes_exactly(trained):
    _, out = trained
    model = load(out / "model")
    assert (
        model.features.control_width == 2
        and json.loads((out / "model" / "transformer" / "config.json").read_text())["control_dim"] == 8
    )
    torch.manual_seed(3)
    rows = torch.rand(57, 2)
    later = torch.cat([rows[:40], 1 - rows[40:]])
    tracks_ = {"none": None, "rows": rows, "later": later}
    shown = {n: frames_of(rolled(model, t, scale=4.0)) for n, t in tracks_.items()}
    assert shown["rows"].shape[2] == 57 and not torch.allclose(shown["rows"], shown["none"])
    same = (shown["rows"] == shown["later"]).flatten(3).all(3).all(1)[0]
    assert bool(same[:33].all()) and not bool(same[41:].any()), "a clip is conditioned on its own rows alone"
    making, snapshots = rolled(model, rows, scale=4.0), []
    for event in making.run():
        if isinstance(event, WindowDone):
            snapshots.append((event.frames, making.state()))
    for frames, (tensors, facts) in snapshots[:1]:
        again = rolled(model, rows, scale=4.0)
        again.load({name: tensor.clone() for name, tensor in tensors.items()}, facts)
        assert torch.equal(frames_of(again), shown["rows"][:, :, frames:])


def rolled(model, rows, scale=1.0):
    script = Script.of([Scene("a red circle")], 24, 57 / 24)
    control = None if rows is None else ControlSignal(rows, scale=scale)
    start = torch.zeros(1, 3, 1, 64, 64)
    return build_rollout(
        model,
        script,
        make_plan("clip-conditioned", steps=2, overlap=1),
        inputs=RolloutInputs(start=start, control=control),
        guidance=2.0,
    )


def test_the_command_line_stores_a_control_signal_and_verifies_its_video(trained, tmp_path, capsys):
    model, out = str(trained[1] / "model"), tmp_path / "video"
    torch.manual_seed(5)
    (tmp_path / "path.csv").write_text("\n".join(f"{x},{y}" for x, y in torch.rand(57, 2).tolist()))
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "sea.png")
    asked = ["a red circle", "--model", model, "--image", tmp_path / "sea.png", "--seconds", "1"]
    asked += ["--threads", "1", "--steps", "1", "--guidance", "1"]
    track = ["--control", tmp_path / "path.csv", "--control-scale", "3"]
    assert run([str(a) for a in ("generate", *asked, *track, "-o", out)]) == 0
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["sampling"]["control_scale"] == 3 and settings["inputs"]["control"]["name"] == "control.csv"
    assert (out / "inputs" / "control.csv").read_bytes() == (tmp_path / "path.csv").read_bytes()
    assert run(["verify", str(out)]) == 0
    capsys.readouterr()
    assert (
        run(
            [
                str(a)
                for a in (
                    "generate",
                    "a",
                    "--model",
                    "clock",
                    "--control",
                    tmp_path / "path.csv",
                    "-o",
                    tmp_path / "no",
                )
            ]
        )
        == 2
    )
    assert "clock takes no control signal" in capsys.readouterr().err


def test_a_model_is_scored_by_how_it_follows(trained, tmp_path, monkeypatch):
    recipe, _ = trained
    one_prompt = replace(recipe.video.config, eval_prompts=1)
    recipe, whole = replace(recipe, video=replace(recipe.video, config=one_prompt)), driven.evaluate
    monkeypatch.setattr(driven, "evaluate", lambda *args: whole(*args, frames=33))
    scores = recipe.evaluate(1, tmp_path)
    assert set(scores) == {"follows", "true", "chance"} == set(recipe.scores()) and scores["true"] > 0.95
    assert (tmp_path / "sheet-000001.png").exists()


def test_errors_are_recycled_in_clips_with_a_control_signal(table, tmp_path):
    settings = {key: value for key, value in table.items() if key != "network"} | {"network": table["network"]}
    config = dict(
        recipe="image_to_video",
        preset="svi-shot",
        lora={"rank": 2, "alpha": 2.0},
        bank={"capacity": 2},
        errors={"clean_prob": 0.0},
        settings=settings,
    )
    recipe = RECIPES["error_recycling"].make(config, tmp_path, RECIPES)
    for step in range(3):
        mean(recipe.loss(step, rng(step))).backward()
    assert len(recipe.bank) == 12
    trainable = {name for name, weight in recipe.module.named_parameters() if weight.requires_grad}
    assert trainable and all("down" in name or "up" in name for name in trainable)


def test_a_model_without_control_input_refuses_a_signal():
    with pytest.raises(PlanError, match="takes no control signal"):
        build_rollout(
            load("pocket"),
            Script.of("a", 24, 1.0),
            make_plan("clip"),
            inputs=RolloutInputs(control=ControlSignal(torch.zeros(3, 1))),
        )
