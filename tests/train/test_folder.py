"""The video recipes on a prepared folder of real clips: batches of one bucket, exact resume, and a loss that falls."""

import json
import shutil
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch

from longtake.data.filters import Rules
from longtake.data.prepare import Request, prepare
from longtake.models import builtin, load, wan_codec, weights
from longtake.models.clip import ClipVision
from longtake.models.umt5 import UmT5Text
from longtake.train.checkpoint import newest_checkpoint, read
from longtake.train.config import ConfigError
from longtake.train.loop import Settings, train
from longtake.train.recipes import RECIPES
from longtake.train.shards import Loss
from tests import released
from tests.data.clips import real

from .toys import curve, quiet

NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=3, freq_dim=16, ffn_dim=32, num_layers=1,
    view=9,
)  # fmt: skip
SIZES = [[24, 56], [40, 48]]
SHORT = Settings(steps=6, lr=5e-3, warmup=2, decay=0.0, save=3, log=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """bikes.mp4 and carphone_pristine.mp4 prepared, and a codec of random weights."""
    root = tmp_path_factory.mktemp("folder")
    (root / "in").mkdir()
    for name in ("bikes.mp4", "carphone_pristine.mp4"):
        shutil.copy(real(name), root / "in")
    (root / "in" / "all.csv").write_text("file,caption\nbikes.mp4,a red circle moves\n")
    prepare(root / "in", root / "out", Request(Rules(side=100)))
    torch.manual_seed(0)
    config = wan_codec.tiny(latents_mean=(0.0,) * 3, latents_std=(1.0,) * 3)
    net = wan_codec.WanCodec(config)
    wan_codec.initialise(net)
    weights.save(net, config, root / "codec", kind="AutoencoderKLWan")
    return root


def table(root, **changes):
    width = json.loads((builtin()["pocket"] / "text_encoder" / "config.json").read_text())["d_model"]
    footage = {"fps": 24.0, "seconds": [0.7, 0.35], "sizes": SIZES, **changes.pop("footage", {})}
    return {
        "text": str(builtin()["pocket"]), "codec": str(root / "codec"), "folder": str(root / "out"), "footage": footage,
        "network": {**NETWORK, "text_dim": width, **changes.pop("network", {})}, "frames": 20, "judged": 2, **changes,
    }  # fmt: skip


def made(name, settings, out, seed=0):
    torch.manual_seed(seed)
    return RECIPES[name](settings, out)


def rng(seed):
    return torch.Generator().manual_seed(seed)


NETS = {"causal": {"causal": True, "block": 1}, "i2v": {"in_channels": 3 + 4 + 3}}
MORE = {"i2v": {"given": {"counts": [1, 5], "weights": [0.5, 0.5]}}}


@pytest.mark.parametrize("name", ["flow", "forcing", "causal", "i2v"])
def test_a_batch_is_of_one_bucket(name, root, tmp_path):
    recipe = made(name, table(root, network=NETS.get(name, {}), drop=0.25, **MORE.get(name, {})), tmp_path)
    seen, told = Counter(), Counter()
    for step in range(40):
        sample = recipe.draw(step, rng(step))
        count, channels, *shape = sample.video.shape
        frames, height, width = shape
        cost = -(-frames * height * width // (6 * 14))
        assert channels == 3 and count == max(1, 20 // (2 * cost if sample.before is not None else cost))
        assert not sample.sprite.any() and sample.level.shape == (count, frames)
        assert sample.beside is None or sample.beside.shape == (count, 7, *shape)
        seen[tuple(shape)] += 1
        told.update(words for captions in sample.told for _, words in captions)
    assert set(seen) == {(5, 6, 14), (3, 6, 14), (5, 10, 12), (3, 10, 12)} & set(seen) and len(seen) >= 3
    assert seen.most_common(1)[0][0] == (5, 6, 14)
    assert set(told) == {"", "a red circle moves"}
    loss = recipe.loss(0, rng(0))
    assert isinstance(loss, Loss) and torch.isfinite(loss.total)


def test_error_recycling_keeps_to_one_bucket(root, tmp_path):
    one = table(root, footage={"seconds": [0.7], "sizes": SIZES[:1]})
    recipe = made("recycle", {"recipe": "flow", "rank": 2, "settings": one}, tmp_path)
    for step in range(4):
        assert torch.isfinite(recipe.loss(step, rng(step)).total)
    assert len(recipe.memory)
    with pytest.raises(ConfigError, match="one of seconds and one of sizes"):
        made("recycle", {"recipe": "flow", "rank": 2, "settings": table(root)}, tmp_path)


def test_a_resumed_run_repeats_the_whole_one_whatever_became_of_the_latents(root, tmp_path):
    settings = table(root, footage={"cache": str(tmp_path / "latents")})
    config = {"loop": asdict(SHORT), "forcing": settings}
    train(made("forcing", settings, tmp_path / "a"), SHORT, tmp_path / "a", quiet, config)
    train(made("forcing", settings, tmp_path / "b"), replace(SHORT, steps=3), tmp_path / "b", quiet, config)
    shutil.rmtree(tmp_path / "latents")
    bounded = {**settings, "footage": {**settings["footage"], "cache_gb": 2e-5}}
    train(
        made("forcing", bounded, tmp_path / "b", seed=5), SHORT, tmp_path / "b", quiet, {**config, "forcing": bounded}
    )
    assert curve(tmp_path / "b") == curve(tmp_path / "a") and len(curve(tmp_path / "a")) == 6
    for part in ("model", "ema", "optimiser"):
        whole, parts = (read(newest_checkpoint(tmp_path / run), part) for run in "ab")
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert sum(path.stat().st_size for path in (tmp_path / "latents").iterdir()) <= 20000


def test_a_changed_folder_is_refused_with_what_changed(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    settings = table(tmp_path / "copy")
    train(made("flow", settings, tmp_path / "run"), replace(SHORT, steps=1), tmp_path / "run", quiet)
    (tmp_path / "copy" / "in" / "all.csv").write_text("file,caption\nbikes.mp4,a blue circle moves\n")
    prepare(tmp_path / "copy" / "in", tmp_path / "copy" / "out", Request(Rules(side=100)))
    with pytest.raises(ConfigError, match=r"other data: videos\.bikes\.mp4 was .*, now") as said:
        train(made("flow", settings, tmp_path / "run"), replace(SHORT, steps=2), tmp_path / "run", quiet)
    assert "carphone" not in str(said.value)


@pytest.mark.parametrize("name", ["forcing", "i2v"])
def test_a_finished_run_is_a_model_of_its_footage(name, root, tmp_path):
    card = {"options": {"overlap": 1}, "steps": 2, "guidance": 1.0}
    changes = {"network": NETS.get(name, {}), "card": card, **MORE.get(name, {})}
    settings = table(root, footage={"seconds": [0.7], "fps": 20.0}, **changes)
    recipe = made(name, settings, tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {name: settings})
    model = load(tmp_path / "model")
    assert model.fps == 20 and model.size == recipe.video.data.usual == tuple(SIZES[0])
    assert recipe.check(1, tmp_path) == {} and (tmp_path / "sheet-000001.png").exists() and recipe.scores() == ()


def test_a_folder_of_driven_clips_whose_captions_change(root, tmp_path):
    """The sound of a real video drives it; image to video, error recycling on top, and a model that hears a track."""
    (tmp_path / "in").mkdir()
    shutil.copy(real("bigbuckbunny.mp4"), tmp_path / "in")
    (tmp_path / "in" / "all.csv").write_text(
        "file,start,caption\nbigbuckbunny.mp4,0,a rabbit\nbigbuckbunny.mp4,1.4,grass\n"
    )
    prepare(tmp_path / "in", tmp_path / "out", Request(Rules(side=100), "none"))
    footage = {"seconds": [0.7], "sizes": [[24, 40]], "track": "sound", "cache": str(tmp_path / "latents")}
    net = {**NETS["i2v"], "track_dim": 4}
    settings = table(root, network=net, footage=footage, untracked=0.0, **MORE["i2v"]) | {
        "folder": str(tmp_path / "out")
    }
    recipe = made("i2v", {**settings, "card": {"options": {"overlap": 1}, "steps": 2}}, tmp_path / "run")
    sample = recipe.draw(0, rng(0))
    assert sample.track.shape == (*sample.level.shape, 4) and sample.track.max() > 0
    samples = [recipe.draw(step, rng(step)) for step in range(30)]
    said = {tuple(captions) for sample in samples for captions in sample.told}
    assert any([words for _, words in captions] == ["a rabbit", "grass"] and captions[1][0] > 0 for captions in said)
    train(recipe, replace(SHORT, steps=1), tmp_path / "run", quiet, {"i2v": settings})
    assert recipe.check(1, tmp_path) == {} and recipe.scores() == () and load(tmp_path / "run" / "model").track == 1
    inner = {**settings, "init": str(tmp_path / "run" / "model"), "network": {}}
    again = made("recycle", {"recipe": "i2v", "rank": 2, "settings": inner}, tmp_path / "recycle")
    assert torch.isfinite(again.loss(0, rng(0)).total)
    with pytest.raises(ValueError, match="driven by a sound need track_dim = 4"):
        made("i2v", {**settings, "network": {**NETWORK, **NETS["i2v"], "text_dim": 24}}, tmp_path / "deaf")


def test_a_lora_learns_real_clips(tmp_path):
    """On top of pocket, with its codec, frame rate and size; the loss of one batch falls."""
    (tmp_path / "in").mkdir()
    shutil.copy(real("carphone_pristine.mp4"), tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out", Request(Rules(side=100), "none", captioner="filename"))
    inner = {
        "init": "pocket",
        "folder": str(tmp_path / "out"),
        "footage": {"seconds": [1.0]},
        "frames": 14,
        "judged": 0,
    }
    settings = {"recipe": "flow", "rank": 8, "settings": inner}
    recipe = made("lora", settings, tmp_path / "run")

    def loss():
        with torch.no_grad():
            found = recipe.loss(0, rng(3))
            return float(found.total / found.weight)

    before = loss()
    train(recipe, replace(SHORT, steps=10, lr=2e-3, save=0), tmp_path / "run", quiet, {"lora": settings})
    assert loss() < 0.9 * before
    assert (tmp_path / "run" / "lora.safetensors").exists()
    assert {clip.pair.frames for clip in recipe.inner.video.data.clips} == {25}


def test_a_folder_that_says_too_little_is_refused(root, tmp_path):
    settings = table(root)
    with pytest.raises(ConfigError, match="give `fps` and `sizes`"):
        made("flow", {**settings, "footage": {}}, tmp_path)
    with pytest.raises(ValueError, match="longtake data prepare"):
        made("flow", {**settings, "folder": str(tmp_path)}, tmp_path)


def test_a_released_checkpoint_learns_with_its_own_text_encoder(root, tmp_path):
    """A folder as diffusers writes it: umT5 with its own length of prompts, and a codec whose latents it learns from."""
    model = released.diffusers(tmp_path / "model", released.parts("t2v"))
    settings = {"init": str(model), "folder": str(root / "out"), "frames": 20, "judged": 0}
    footage = {"fps": 24.0, "seconds": [0.7], "sizes": [[32, 64]]}
    recipe = made("flow", {**settings, "footage": footage}, tmp_path / "run")
    sample = recipe.draw(0, rng(0))
    assert sample.video.shape[1] == recipe.module.config.in_channels and torch.isfinite(recipe.loss(0, rng(0)).total)
    direct = UmT5Text(recipe.video.text.encoder, released.tokenizer())
    words = ["a man on a bike &amp; a bus"]
    assert torch.equal(recipe.video.text.encode(words), direct.encode(words))
    with pytest.raises(ConfigError, match="give `fps` and `sizes`"):
        made("flow", settings, tmp_path / "other")


def test_what_clip_sees_of_a_shot_is_kept_in_the_store(root, tmp_path, monkeypatch):
    eyes, looked, see = released.parts("i2v").eyes, [], ClipVision.see
    weights.save(eyes, eyes.config, tmp_path / "eyes", name="model")
    monkeypatch.setattr(ClipVision, "see", lambda self, image: looked.append(1) or see(self, image))
    network = {**NETS["i2v"], "image_dim": 14, "added_kv_proj_dim": 24}
    settings = table(root, network=network, image_encoder=str(tmp_path / "eyes"), **MORE["i2v"])
    settings["footage"]["cache"] = str(tmp_path / "cache")
    drawn = [made("i2v", settings, tmp_path / name).draw(0, rng(0)).image for name in ("a", "b")]
    assert torch.equal(*drawn) and drawn[0].shape[1:] == (5, 14)
    assert len(looked) == len({tuple(row.flatten().tolist()) for row in drawn[0]})
