"""Conditional clips: what drives a sprite is told to the network, trained, listened to, and sliced clip by clip."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.cli import run
from longtake.engine import Rollout
from longtake.eval import driven
from longtake.eval.driven import followed, unseen
from longtake.events import Ended, Frames
from longtake.models import load
from longtake.models.wan import WanTransformer, tiny
from longtake.plan import PlanError
from longtake.plans import plan
from longtake.script import Scene, Script
from longtake.track import Track
from longtake.train.data import Latents, Source
from longtake.train.loop import Settings, train
from longtake.train.recipes import RECIPES
from longtake.train.recipes.i2v import tracks
from longtake.train.start import network
from longtake.world import Clip, Facts, parse
from longtake.world import Scene as Told

TEXT = dict(network=dict(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), batch=16)
CODEC = dict(
    network=dict(
        base_dim=4, decoder_base_dim=4, z_dim=4, dim_mult=(1, 1, 1), num_res_blocks=1, temperal_downsample=(True, True),
        in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
    ),
    frames=10, lengths=(1, 5), judged=1, measured=2,
)  # fmt: skip
NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
    num_layers=1, view=9,
)  # fmt: skip
SHORT = Settings(steps=1, lr=3e-3, warmup=3, save=0, log=30)
SOURCE = dict(frames=33, switch=0.0, drive="path")
GIVEN = {"counts": (1,), "weights": (1.0,)}


def quiet(line):
    pass


def mean(loss):
    return loss.total / loss.weight


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """An i2v run whose clips follow a path, with their latents made; text encoder and codec have hardly learnt."""
    folder = tmp_path_factory.mktemp("driven")
    torch.manual_seed(0)
    for name, config in (("text", TEXT), ("codec", CODEC)):
        train(RECIPES[name](config, folder / name), SHORT, folder / name, quiet)
    table = dict(
        text=str(folder / "text"), codec=str(folder / "codec" / "codec"), clips=6, source=SOURCE, frames=36,
        lengths=((1.0, (9,)),), judged=0, given=GIVEN, network={**NETWORK, "in_channels": 12, "track_dim": 8},
    )  # fmt: skip
    RECIPES["i2v"](table, folder)
    return {**table, "data": str(folder / "latents")}


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """A run in which the latents themselves are made to show what drives them, so that little training is enough."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("trained")
    recipe = RECIPES["i2v"](table, out)
    data = recipe.video.data
    rows = tracks(data, list(data.clips), 9, 4).unflatten(2, (4, 2)).mean(2)
    data.latents.copy_(4 * rows.repeat(1, 1, 2).transpose(1, 2)[..., None, None])
    train(recipe, replace(SHORT, steps=40, lr=1e-2, ema=0.5), out, quiet, {"i2v": table})
    return recipe, out


# ---------------------------------------------------------------- the world
@pytest.mark.parametrize("drive", ["voice", "path"])
def test_a_sprite_follows_what_drives_it_and_no_caption_says_how(drive):
    one, other = unseen(drive, 2)
    shown = one.rendered(49)
    assert followed(shown, one.rows(49)) > 0.95 > 0.7 > followed(shown, other.rows(49))
    assert parse(one.text)["motion"] == "still"
    assert followed(torch.zeros(20, 3, 64, 64), one.rows(20)) == 0.0


def test_any_part_of_a_track_is_as_in_the_whole():
    clip = Clip((Told(Facts("red", "star", "still", "sea")),), 7, drive="voice")
    assert np.array_equal(clip.track(0, 60)[20:40], clip.track(20, 40))
    assert clip.track(0, 500).min() >= 0 and 0.8 < clip.track(0, 500).max() <= 1
    with pytest.raises(ValueError, match="by a voice or a path"):
        replace(clip, drive="wind")
    with pytest.raises(ValueError, match="one scene"):
        replace(clip, scenes=(*clip.scenes, Told(clip.scenes[0].facts, 9)))
    with pytest.raises(ValueError, match="without a switch"):
        Source(drive="voice")


def test_a_source_that_drives_nothing_is_recorded_as_before(table):
    assert Source().facts() == {"frames": 121, "switch": 0.3, "seed": 0}
    assert Latents(Path(table["data"])).source == Source(**SOURCE)


# ---------------------------------------------------------------- the network
def test_a_new_track_changes_nothing_at_first_and_no_track_stays_possible():
    net = WanTransformer(tiny(track_dim=8)).eval()
    x, text, level = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 5, 10), torch.full((3,), 0.5)
    rows = torch.randn(3, 8)
    plain = net(x, level, text)
    assert torch.equal(net(x, level, text, track=rows), plain)
    torch.nn.init.normal_(net.condition_embedder.track_embedder.linear_2.weight)
    driven = net(x, level, text, track=rows)
    assert not torch.allclose(driven, plain) and torch.equal(net(x, level, text), plain)
    assert torch.allclose(net(x, level, text, track=rows.expand(2, 3, 8)), driven)
    with pytest.raises(ValueError, match="told of no track"):
        WanTransformer(tiny())(x, level, text, track=rows)


def test_a_network_learns_to_hear_without_forgetting(trained):
    _, out = trained
    said = []
    plain = {"in_channels": 12}
    network({**plain, "track_dim": 8}, str(out), said.append)
    assert "track_dim" not in said[0]
    grown, _ = network({"track_dim": 4}, "pocket", said.append)
    assert said[-1].endswith("track_dim 4 is new and adds nothing at first")
    assert not grown.condition_embedder.track_embedder.linear_2.weight.any()
    with pytest.raises(ValueError, match="track_dim 8, not 4"):
        network({**plain, "track_dim": 4}, str(out), said.append)


# ---------------------------------------------------------------- training
def test_the_network_listens_to_the_track(trained):
    """Told the tracks of other clips, a trained network does worse on the same noise."""
    recipe, _ = trained
    right = wrong = 0.0
    with torch.no_grad():
        for seed in range(3):
            sample = next(s for n in range(9) if (s := recipe.draw(n, rng(10 * seed + n))).track is not None)
            right += float(mean(recipe.video.loss(sample)))
            wrong += float(mean(recipe.video.loss(replace(sample, track=sample.track.roll(1, 0)))))
    assert right < 0.8 * wrong, (right, wrong)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def test_rows_of_a_sample_are_those_of_its_clip_and_are_left_out_at_times(table, tmp_path):
    recipe = RECIPES["i2v"]({**table, "untracked": 0.4}, tmp_path)
    samples = [recipe.draw(0, rng(seed)) for seed in range(60)]
    share = sum(sample.track is None for sample in samples) / 60
    assert 0.4 - 0.25 < share < 0.4 + 0.25
    rows = tracks(recipe.video.data, [0], 3, 4)[0].unflatten(1, (4, 2))
    clip = torch.from_numpy(recipe.video.data.clips[0].track(0, 9)).float()
    assert torch.equal(rows[0], clip[:1].expand(4, 2)) and torch.equal(rows[1:].flatten(0, 1), clip[1:])


def test_a_network_without_ears_and_ears_without_a_track_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match="need track_dim = 8"):
        RECIPES["i2v"]({**table, "network": {**NETWORK, "in_channels": 12}}, tmp_path)
    with pytest.raises(ValueError, match="nothing drives these clips"):
        RECIPES["i2v"]({**table, "data": "", "source": dict(frames=33), "clips": 1}, tmp_path)


# ---------------------------------------------------------------- a chain of clips
def frames_of(making):
    return torch.cat([event.video for event in making.run() if isinstance(event, Frames)], 2)


def test_a_finished_model_is_driven_clip_by_clip_and_resumes_exactly(trained):
    _, out = trained
    model = load(out / "model")
    assert (
        model.track == 2 and json.loads((out / "model" / "transformer" / "config.json").read_text())["track_dim"] == 8
    )
    torch.manual_seed(3)
    rows = torch.rand(57, 2)
    later = torch.cat([rows[:40], 1 - rows[40:]])
    tracks_ = {"none": None, "rows": rows, "later": later}
    shown = {n: frames_of(rolled(model, t, scale=4.0)) for n, t in tracks_.items()}
    assert shown["rows"].shape[2] == 57 and not torch.allclose(shown["rows"], shown["none"])
    same = (shown["rows"] == shown["later"]).flatten(3).all(3).all(1)[0]
    assert bool(same[:33].all()) and not bool(same[41:].any()), "a clip hears its own rows alone"
    making, snapshots = rolled(model, rows, scale=4.0), []
    for event in making.run():
        if isinstance(event, Ended):
            snapshots.append((event.frames, making.state()))
    for frames, (tensors, facts) in snapshots[:1]:
        again = rolled(model, rows, scale=4.0)
        again.load({name: tensor.clone() for name, tensor in tensors.items()}, facts)
        assert torch.equal(frames_of(again), shown["rows"][:, :, frames:])


def rolled(model, rows, scale=1.0):
    told = Script.of([Scene("a red circle")], 24, 57 / 24)
    track = None if rows is None else Track(rows, scale=scale)
    start = torch.zeros(1, 3, 1, 64, 64)
    return Rollout(model, told, plan("crossclip", steps=2, overlap=1), start=start, guidance=2.0, track=track)


def test_the_command_takes_a_track_keeps_it_and_makes_the_same_again(trained, tmp_path, capsys):
    model, out = str(trained[1] / "model"), tmp_path / "video"
    torch.manual_seed(5)
    (tmp_path / "path.csv").write_text("\n".join(f"{x},{y}" for x, y in torch.rand(57, 2).tolist()))
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "sea.png")
    asked = ["a red circle", "--model", model, "--image", tmp_path / "sea.png", "--seconds", "1"]
    asked += ["--threads", "1", "--steps", "1", "--guidance", "1"]
    track = ["--track", tmp_path / "path.csv", "--track-scale", "3"]
    assert run([str(a) for a in ("generate", *asked, *track, "-o", out)]) == 0
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["track_scale"] == 3 and settings["given"]["track"]["name"] == "track.csv"
    assert (out / "given" / "track.csv").read_bytes() == (tmp_path / "path.csv").read_bytes()
    assert run(["verify", str(out)]) == 0
    capsys.readouterr()
    assert (
        run(
            [
                str(a)
                for a in ("generate", "a", "--model", "clock", "--track", tmp_path / "path.csv", "-o", tmp_path / "no")
            ]
        )
        == 2
    )
    assert "clock takes none" in capsys.readouterr().err


def test_a_model_is_checked_by_how_it_follows(trained, tmp_path, monkeypatch):
    recipe, _ = trained
    recipe.video.config, whole = replace(recipe.video.config, judged=1), driven.check
    monkeypatch.setattr(driven, "check", lambda *told: whole(*told, frames=33))
    scores = recipe.check(1, tmp_path)
    assert set(scores) == {"follows", "true", "chance"} == set(recipe.scores()) and scores["true"] > 0.95
    assert (tmp_path / "sheet-000001.png").exists()


def test_errors_are_recycled_in_conditional_clips_too(table, tmp_path):
    settings = {key: value for key, value in table.items() if key != "network"} | {"network": table["network"]}
    config = dict(recipe="i2v", preset="svi-shot", rank=2, alpha=2.0, capacity=2, clean=0.0, settings=settings)
    recipe = RECIPES["recycle"](config, tmp_path)
    for step in range(3):
        mean(recipe.loss(step, rng(step))).backward()
    assert len(recipe.memory) == 12
    trainable = {name for name, weight in recipe.module.named_parameters() if weight.requires_grad}
    assert trainable and all("down" in name or "up" in name for name in trainable)


def test_a_model_without_ears_refuses_a_track():
    with pytest.raises(PlanError, match="takes none"):
        Rollout(load("pocket"), Script.of("a", 24, 1.0), plan("clip"), track=Track(torch.zeros(3, 1)))
