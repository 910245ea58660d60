"""Clips of several durations and sizes in one batch: the same tokens, at the same places, as in the whole clips."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from longtake.api import generate
from longtake.data.filters import Rules
from longtake.data.prepare import Request, prepare
from longtake.models import load, ltx, ltx_codec, ltx_codec_config, weights
from longtake.models.lora_file import read as read_lora
from longtake.models.ltx_lora import SPELLING
from longtake.train.config import ConfigError
from longtake.train.data import Source
from longtake.train.loop import Settings, train
from longtake.train.mixed import Drawing, Given, fill_clips
from longtake.train.recipes import RECIPES
from longtake.train.recipes.mixed import Mixed, Whole
from longtake.world import parse, render
from tests.checkpoints import random_text
from tests.data.clips import moving, write

MIXED = dict(seconds=(1.0, 1.5), sizes=((32, 32), (24, 40)), clips=3, drawing={"tokens": 600}, judged=0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A codec and a text encoder that know nothing."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = ltx_codec_config.tiny()
    codec = ltx_codec.LTXCodec(config)
    codec.latents_std.fill_(0.5)
    weights.save(codec, config, folder / "codec", kind="AutoencoderKLLTXVideo")
    random_text(folder, 10)
    return folder


@pytest.fixture(scope="module")
def table(parts, tmp_path_factory):
    network = asdict(ltx.tiny(num_layers=1, caption_channels=10))
    found = {**MIXED, "text": str(parts), "codec": str(parts / "codec"), "network": network}
    run = tmp_path_factory.mktemp("run")
    Mixed(found, run)
    return {**found, "data": str(run / "latents")}


@pytest.fixture
def recipe(table, tmp_path):
    torch.manual_seed(0)
    made = Mixed({**table, "drawing": {"tokens": 900}}, tmp_path)
    torch.nn.init.normal_(made.module.proj_out.weight)
    return made


def batches(recipe, count):
    return [recipe.draw(0, torch.Generator().manual_seed(seed)) for seed in range(count)]


def test_a_batch_has_clips_of_several_kinds_and_equally_many_tokens(recipe):
    found = batches(recipe, 20)
    assert len({batch.video.shape[1] for batch in found}) > 5
    for batch in found:
        count, kept = batch.video.shape[:2]
        assert count == max(1, 900 // kept)
        counts = [pair.tokens for pair in batch.pairs]
        assert kept <= min(counts) and min(counts) >= 0.8 * max(counts) and kept >= 0.8 * max(counts)
        for tensor in (batch.level, batch.sprite, batch.known, batch.rope):
            assert tensor.shape[:2] == (count, kept)
    assert any(len(set(batch.pairs)) > 1 for batch in found)
    seen = {pair for batch in found for pair in batch.pairs}
    assert seen == set(recipe.pairs) and len(seen) == 4


def test_the_network_sees_what_it_sees_of_each_clip_alone(recipe):
    """Tokens of a batch are those of whole clips with some left out: same values, same places, same velocity."""
    batch = next(b for b in batches(recipe, 20) if len(set(b.pairs)) > 1)
    with torch.no_grad():
        together = recipe.velocity(batch)
        for row, (pair, keep) in enumerate(zip(batch.pairs, batch.kept)):
            latents = torch.zeros(1, pair.tokens, 4)
            video, noise, level = latents.clone(), latents.clone(), torch.zeros(1, pair.tokens)
            video[0, keep], noise[0, keep], level[0, keep] = batch.video[row], batch.noise[row], batch.level[row]
            grids = (part.transpose(1, 2).unflatten(2, pair.shape) for part in (video, noise))
            at = level.unflatten(1, pair.shape)
            x = torch.lerp(*grids, at[:, None])
            alone = recipe.module(x, at, recipe.text.encode([batch.told[row]]), keep=keep[None])
            assert torch.allclose(alone[0].T, together[row], atol=1e-5)


def test_a_short_clip_is_the_beginning_of_a_long_one(recipe):
    """Clips are encoded once, at the longest duration."""
    for pair in recipe.pairs:
        tokens, _ = recipe.clips.clip(pair, 1)
        clip = recipe.clips.seen(pair, 1)
        frames = render(clip, 0, pair.frames, (pair.height, pair.width)).frames
        want = recipe.codec.encode((frames * 2 - 1).transpose(0, 1)[None])[0].flatten(1).T
        assert torch.allclose(tokens, want, atol=2e-2)  # kept in half precision
        words = recipe.clips.told(pair, 1, random.Random(0))
        assert parse(words)["colour"] == clip.scenes[0].facts.colour


def test_a_run_on_short_clips_takes_the_latents_of_longer_ones(table, recipe, tmp_path):
    short = Mixed({**table, "seconds": (1.0,)}, tmp_path)
    assert {pair.frames for pair in short.pairs} == {25}
    for pair in short.pairs:
        assert torch.equal(short.clips.clip(pair, 1)[0], recipe.clips.clip(pair, 1)[0])
        assert short.clips.told(pair, 1, random.Random(5)) == recipe.clips.told(pair, 1, random.Random(5))


def test_captions_are_those_of_the_run_that_filled_the_folder(table, recipe, tmp_path):
    """Also for a run of other sizes and another seed."""
    other = Mixed({**table, "sizes": ((32, 32),), "seed": 9}, tmp_path)
    for pair in other.pairs:
        assert torch.equal(other.clips.clip(pair, 1)[0], recipe.clips.clip(pair, 1)[0])
        assert other.clips.told(pair, 1, random.Random(5)) == recipe.clips.told(pair, 1, random.Random(5))
    assert other.clips.facts()["seed"] == 3 and recipe.clips.facts()["seed"] == 0


def test_latents_of_another_codec_are_refused(table, tmp_path):
    codec = ltx_codec.load(Path(table["codec"]), torch.float32)
    codec.latents_std.fill_(0.7)
    weights.save(codec, codec.config, tmp_path / "codec", kind="AutoencoderKLLTXVideo")
    with pytest.raises(ValueError, match="was encoded by another codec"):
        Mixed({**table, "codec": str(tmp_path / "codec")}, tmp_path / "run")


# ---------------------------------------------------------------- what is given
def test_what_is_given_is_clean_and_not_in_the_loss(table, tmp_path):
    recipe = Mixed({**table, "given": {"first": 0.5, "several": 0.5, "counts": [2]}}, tmp_path)
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    batch = recipe.draw(0, torch.Generator().manual_seed(1))
    assert batch.known.any(1).all() and not batch.known.all()
    assert (batch.level[batch.known] == 0).all() and (batch.level[~batch.known] > 0).any()
    other = torch.where(batch.known[..., None], 9.0, batch.noise)
    losses = []
    for noise in (batch.noise, other):
        recipe.draws = lambda rng, noise=noise: replace(batch, noise=noise)
        loss = recipe.loss(0, torch.Generator())
        losses.append(loss.total / loss.weight)
    assert torch.equal(*losses)


def test_beginnings_are_given_as_often_as_asked():
    given, chance = Given(first=0.3, several=0.4, counts=(2, 4), end=0.25), random.Random(0)
    found = [given.known(16, chance) for _ in range(4000)]
    kinds = [(int(known.sum()), bool(known[0])) for known in found]
    share = lambda *wanted: sum(kind in wanted for kind in kinds) / len(kinds)
    assert share((0, False)) == pytest.approx(0.3, abs=0.03)
    assert share((1, True)) == pytest.approx(0.3, abs=0.03)
    assert share((2, True), (4, True)) == pytest.approx(0.3, abs=0.03)
    assert share((2, False), (4, False)) == pytest.approx(0.1, abs=0.03)
    assert not given.known(2, random.Random(1)).all()


# ---------------------------------------------------------------- from the run to a model
def test_a_finished_run_makes_a_relay_of_any_size(table, tmp_path):
    table = {**table, "card": {"options": {"window": 25, "overlap": 1}, "steps": 1}}
    recipe = Mixed(table, tmp_path)
    train(recipe, Settings(steps=1, warmup=0, save=0), tmp_path, lambda line: None, {"mixed": table})
    model = load(tmp_path / "model")
    assert model.family == "ltx" and model.plan == "relay" and model.limits.view == 6 and model.decode_noise == 0.05
    frames = list(generate(model, "a red circle", seconds=60 / 24, guidance=1.0, size=(24, 40)))
    assert sum(len(part) for part in frames) == 60 and frames[0].shape[1:] == (24, 40, 3)
    about = json.loads((tmp_path / "model" / "longtake.json").read_text())
    assert about["clips"] == {**asdict(Source(recipe.clips.longest, 0.0)), "count": 6}
    onward = {**table, "init": str(tmp_path / "model"), "network": {}, "codec": "", "text": ""}
    assert Mixed(onward, tmp_path / "on").module.config == recipe.module.config
    released = {**table, "network": {k: v for k, v in table["network"].items() if k != "causal_temporal_positioning"}}
    assert Mixed(released, tmp_path / "new").module.config.causal_temporal_positioning


def test_a_folder_keeps_its_clips(recipe, table):
    root, found = recipe.config.data, recipe.pairs
    calls = []
    fill_clips(type(recipe.codec_folder)(root), found, 3, 0, calls.append, report=calls.append)
    assert not calls
    with pytest.raises(ValueError, match="holds other clips"):
        fill_clips(type(recipe.codec_folder)(root), found, 3, 7, calls.append, report=calls.append)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codec": ""}, "give `codec`, the folder of an LTX codec"),
        ({"text": ""}, "give `text`"),
        ({"sizes": ()}, "at least one duration"),
        ({"sizes": ((30, 32),)}, "whole tokens of 8 pixels"),
        ({"drawing": {"most": 1.0}}, "cannot be dropped"),
        ({"drawing": {"levels": "none"}}, '"mended" or "published"'),
        ({"given": {"first": 0.7, "several": 0.7}}, "must lie between 0 and 1"),
        ({"given": {"counts": []}}, "at least one"),
        ({"network": asdict(ltx.tiny(in_channels=8, caption_channels=10))}, "set in_channels = 4"),
        ({"network": asdict(ltx.tiny(caption_channels=11))}, "set caption_channels = 10"),
        ({"data": "nowhere"}, "encode clips first"),
    ],
)
def test_what_cannot_be_followed_is_said(table, tmp_path, changes, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        Mixed({**table, **changes}, tmp_path)


def test_levels_are_drawn_as_asked():
    rng = torch.Generator().manual_seed(0)
    mended, published = (Drawing(levels=kind).level(rng, 4000, 12_000) for kind in ("mended", "published"))
    assert float((mended < 0.3).float().mean()) > 0.02 > float((published < 0.3).float().mean())


# ---------------------------------------------------------------- real clips
@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A wide and a tall video of 40 frames, prepared; one has a caption."""
    root = tmp_path_factory.mktemp("videos")
    write(root / "in" / "wide.mp4", moving(1, 40, 48, 72))
    write(root / "in" / "tall.mp4", moving(2, 40, 72, 48))
    (root / "in" / "wide.txt").write_text("blocks that move")
    assert prepare(root / "in", root / "out", Request(Rules(seconds=0.5, side=48), "none")).kept == 2
    return root / "out"


def test_a_prepared_folder_is_learned_as_well(table, prepared, tmp_path):
    """Shots of several shapes go into one batch, with their captions; what is made has their size and rate."""
    real = {
        **table, "data": "", "folder": str(prepared), "seconds": (2.0, 1.0), "sizes": ((32, 48), (48, 32)),
        "footage": {"fps": 16.0, "cache": str(tmp_path / "cache")}, "drawing": {"tokens": 600, "drop": 0.0},
        "card": {"options": {"window": 17, "overlap": 1}, "steps": 1},
    }  # fmt: skip
    recipe = Mixed(real, tmp_path / "run")
    assert {pair.name for pair in recipe.pairs} == {"33x32x48", "33x48x32"}
    batch = recipe.draw(0, torch.Generator().manual_seed(0))
    assert set(batch.pairs) == set(recipe.pairs) and set(batch.told) == {"blocks that move", ""}
    for row, (pair, keep) in enumerate(zip(batch.pairs, batch.kept)):
        number = next(n for n, clip in enumerate(recipe.footage.clips) if clip.pair == pair)
        assert torch.equal(batch.video[row], recipe.footage.latents(number).flatten(1).T[keep])
        frames, rows, columns = pair.shape
        assert torch.equal(batch.rope[row], recipe.module.places(range(frames), rows, columns, 16.0)[keep])
    train(recipe, Settings(steps=1, warmup=0, save=0), tmp_path / "run", lambda line: None, {"mixed": real})
    model = load(tmp_path / "run" / "model")
    assert model.fps == 16 and model.size == recipe.footage.usual
    assert recipe.check(1, tmp_path) == {} and recipe.dataset()["clips"] == 2


def test_footage_needs_a_folder(table, tmp_path):
    with pytest.raises(ValueError, match="give `folder` too"):
        Mixed({**table, "footage": {"fps": 16.0}}, tmp_path)


def test_a_check_judges_what_the_network_makes(table, tmp_path):
    card = {"options": {"window": 41, "overlap": 1}, "steps": 1, "guidance": 1.0}
    recipe = Mixed({**table, "judged": 1, "card": card}, tmp_path)
    with torch.no_grad():
        scores = recipe.check(7, tmp_path)
    assert set(scores) == {"colour", "shape", "motion", "scenery"} and (tmp_path / "sheet-000007.png").exists()


def test_a_lora_is_trained_on_top_and_read_again(table, tmp_path):
    lora = {"recipe": "mixed", "rank": 2, "targets": ["to_q", "to_v", "ff.net.2"], "settings": table}
    recipe = RECIPES["lora"](lora, tmp_path)
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    train(recipe, Settings(steps=2, lr=1e-2, warmup=0, save=0), tmp_path, lambda line: None, {"lora": lora})
    trained = [name for name, weight in recipe.module.named_parameters() if weight.requires_grad]
    assert trained and all(".down." in name or ".up." in name for name in trained)
    plain = ltx.LTXTransformer(ltx.tiny(num_layers=1, caption_channels=10))
    assert read_lora(tmp_path / "lora.safetensors", plain, SPELLING)


WHOLE = {"seconds": (1.0,), "sizes": ((32, 32),), "drawing": {"tokens": 600, "most": 0.0}}


def test_whole_clips_are_samples_whose_velocities_are_those_of_their_tokens(table, tmp_path):
    mixed = Mixed({**table, **WHOLE, "given": {"first": 0.5, "several": 0.0}}, tmp_path)
    torch.nn.init.normal_(mixed.module.proj_out.weight)
    whole = Whole(mixed)
    batch, sample = (draw(0, torch.Generator().manual_seed(3)) for draw in (mixed.draw, whole.draw))
    with torch.no_grad():
        assert torch.allclose(whole.velocity(sample).flatten(2).mT, mixed.velocity(batch), atol=1e-5)
    assert sample.known.any() and (sample.level[sample.known] == 0).all() and (sample.level[~sample.known] > 0).all()


def test_errors_are_recycled_on_clips_of_one_shape(table, tmp_path):
    targets = ["to_q", "to_v", "ff.net.2"]
    told = {"recipe": "mixed", "levels": "recipe", "clean": 0.0, "capacity": 20, "rank": 2, "targets": targets}
    table = {**table, **WHOLE, "given": {"first": 1.0, "several": 0.0}}
    recipe = RECIPES["recycle"]({**told, "settings": table}, tmp_path)
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    train(recipe, Settings(steps=3, lr=1e-2, warmup=0, save=0), tmp_path, lambda line: None, {"recycle": told})
    assert len(recipe.memory) and (tmp_path / "lora.safetensors").exists()
    with pytest.raises(ConfigError, match="one of sizes"):
        RECIPES["recycle"]({**told, "settings": {**table, "sizes": ((32, 32), (24, 40))}}, tmp_path / "other")
