"""The video recipes on a prepared folder of real clips: batches of one bucket, exact resume, and a loss that falls."""

import json
import shutil
from collections import Counter

import pytest
import torch

from longtake.core.errors import ConfigError
from longtake.core.flat_config import to_flat
from longtake.data.prepare import Request, prepare
from longtake.data.rules import Rules
from longtake.models import builtin, load
from longtake.models.checkpoints import loading as weights
from longtake.models.encoders.clip_vision import ClipVision
from longtake.models.encoders.umt5 import UmT5Text
from longtake.models.wan import vae as wan_vae
from longtake.models.wan import vae_config as wan_vae_config
from longtake.train.interfaces import Loss
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.run.checkpoint import newest_checkpoint, read
from tests import released
from tests.data.clips import real
from tests.train.toys import curve, quiet

NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=3, freq_dim=16, ffn_dim=32, num_layers=1,
    max_latent_frames=9,
)  # fmt: skip
SIZES = ["56x24", "48x40"]  # width x height
SHORT = LoopConfig.of(steps=6, lr=5e-3, warmup=2, decay=0.0, save_every=3, log_every=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """bikes.mp4 and carphone_pristine.mp4 prepared, and a vae of random weights."""
    root = tmp_path_factory.mktemp("folder")
    (root / "in").mkdir()
    for name in ("bikes.mp4", "carphone_pristine.mp4"):
        shutil.copy(real(name), root / "in")
    (root / "in" / "all.csv").write_text("file,caption\nbikes.mp4,a red circle moves\n")
    prepare(root / "in", root / "out", Request(Rules(min_side=100)))
    torch.manual_seed(0)
    config = wan_vae_config.tiny(latents_mean=(0.0,) * 3, latents_std=(1.0,) * 3)
    net = wan_vae.WanVAE(config)
    wan_vae.initialise(net)
    weights.save(net, config, root / "vae", kind="AutoencoderKLWan")
    return root


def table(root, **changes):
    width = json.loads((builtin()["pocket"] / "text_encoder" / "config.json").read_text())["d_model"]
    footage = {"fps": 24.0, "seconds": [0.7, 0.35], "sizes": SIZES, **changes.pop("footage", {})}
    return {
        "text": str(builtin()["pocket"]), "vae": str(root / "vae"), "folder": str(root / "out"), "footage": footage,
        "network": {**NETWORK, "text_dim": width, **changes.pop("network", {})}, "frames": 20, "eval_prompts": 2, **changes,
    }  # fmt: skip


def made(name, settings, out, seed=0):
    torch.manual_seed(seed)
    return RECIPES[name].make(settings, out, RECIPES)


def rng(seed):
    return torch.Generator().manual_seed(seed)


NETS = {"block_causal": {"causal": True, "block": 1}, "image_to_video": {"in_channels": 3 + 4 + 3}}
MORE = {"image_to_video": {"prefix": {"counts": [1, 5], "weights": [0.5, 0.5]}}}


@pytest.mark.parametrize("name", ["flow_matching", "diffusion_forcing", "block_causal", "image_to_video"])
def test_a_batch_is_of_one_bucket(name, root, tmp_path):
    recipe = made(name, table(root, network=NETS.get(name, {}), caption_dropout=0.25, **MORE.get(name, {})), tmp_path)
    seen, captioned = Counter(), Counter()
    for step in range(40):
        sample = recipe.draw(step, rng(step))
        count, channels, *shape = sample.video.shape
        frames, height, width = shape
        cost = -(-frames * height * width // (6 * 14))
        assert channels == 3 and count == max(1, 20 // (2 * cost if sample.clean_context is not None else cost))
        assert not sample.sprite.any() and sample.sigma.shape == (count, frames)
        assert sample.concat is None or sample.concat.shape == (count, 7, *shape)
        seen[tuple(shape)] += 1
        captioned.update(words for captions in sample.captions for _, words in captions)
    assert set(seen) == {(5, 6, 14), (3, 6, 14), (5, 10, 12), (3, 10, 12)} & set(seen) and len(seen) >= 3
    assert seen.most_common(1)[0][0] == (5, 6, 14)
    assert set(captioned) == {"", "a red circle moves"}
    loss = recipe.loss(0, rng(0))
    assert isinstance(loss, Loss) and torch.isfinite(loss.total)


def test_error_recycling_keeps_to_one_bucket(root, tmp_path):
    one = table(root, footage={"seconds": [0.7], "sizes": SIZES[:1]})
    recipe = made("error_recycling", {"recipe": "flow_matching", "lora": {"rank": 2}, "settings": one}, tmp_path)
    for step in range(4):
        assert torch.isfinite(recipe.loss(step, rng(step)).total)
    assert len(recipe.bank)
    with pytest.raises(ConfigError, match="one of seconds and one of sizes"):
        made("error_recycling", {"recipe": "flow_matching", "lora": {"rank": 2}, "settings": table(root)}, tmp_path)


def test_a_resumed_run_equals_an_uninterrupted_one_without_its_cached_latents(root, tmp_path):
    settings = table(root, footage={"cache": str(tmp_path / "latents")})
    config = {"loop": to_flat(SHORT), "diffusion_forcing": settings}
    train(made("diffusion_forcing", settings, tmp_path / "a"), SHORT, tmp_path / "a", quiet, config)
    train(
        made("diffusion_forcing", settings, tmp_path / "b"), SHORT.with_changes(steps=3), tmp_path / "b", quiet, config
    )
    shutil.rmtree(tmp_path / "latents")
    bounded = {**settings, "footage": {**settings["footage"], "cache_gb": 2e-5}}
    train(
        made("diffusion_forcing", bounded, tmp_path / "b", seed=5),
        SHORT,
        tmp_path / "b",
        quiet,
        {**config, "diffusion_forcing": bounded},
    )
    assert curve(tmp_path / "b") == curve(tmp_path / "a") and len(curve(tmp_path / "a")) == 6
    for part in ("model", "ema", "optimiser"):
        whole, parts = (read(newest_checkpoint(tmp_path / run), part) for run in "ab")
        assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert sum(path.stat().st_size for path in (tmp_path / "latents").iterdir()) <= 20000


def test_a_changed_folder_is_refused_and_its_changes_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    settings = table(tmp_path / "copy")
    train(made("flow_matching", settings, tmp_path / "run"), SHORT.with_changes(steps=1), tmp_path / "run", quiet)
    (tmp_path / "copy" / "in" / "all.csv").write_text("file,caption\nbikes.mp4,a blue circle moves\n")
    prepare(tmp_path / "copy" / "in", tmp_path / "copy" / "out", Request(Rules(min_side=100)))
    with pytest.raises(ConfigError, match=r"other data: videos\.bikes\.mp4 was .*, now") as found:
        train(made("flow_matching", settings, tmp_path / "run"), SHORT.with_changes(steps=2), tmp_path / "run", quiet)
    assert "carphone" not in str(found.value)


@pytest.mark.parametrize("name", ["diffusion_forcing", "image_to_video"])
def test_a_finished_run_is_a_model_of_its_footage(name, root, tmp_path):
    card = {"strategy_options": {"overlap": 1}, "steps": 2, "guidance_scale": 1.0}
    changes = {"network": NETS.get(name, {}), "card": card, **MORE.get(name, {})}
    settings = table(root, footage={"seconds": [0.7], "fps": 20.0}, **changes)
    recipe = made(name, settings, tmp_path)
    train(recipe, SHORT.with_changes(steps=1), tmp_path, quiet, {name: settings})
    model = load(tmp_path / "model")
    assert model.fps == 20 and model.size == recipe.video.data.usual_size == (24, 56)
    assert recipe.evaluate(1, tmp_path) == {} and (tmp_path / "sheet-000001.png").exists() and recipe.scores() == ()


@pytest.mark.long
def test_clips_with_a_control_signal_and_changing_captions(root, tmp_path):
    """The sound of a real video is its control signal; image to video, error recycling on top, and a model with a control signal."""
    (tmp_path / "in").mkdir()
    shutil.copy(real("bigbuckbunny.mp4"), tmp_path / "in")
    (tmp_path / "in" / "all.csv").write_text(
        "file,start,caption\nbigbuckbunny.mp4,0,a rabbit\nbigbuckbunny.mp4,1.4,grass\n"
    )
    prepare(tmp_path / "in", tmp_path / "out", Request(Rules(min_side=100), "none"))
    footage = {"seconds": [0.7], "sizes": ["40x24"], "control": "sound", "cache": str(tmp_path / "latents")}
    net = {**NETS["image_to_video"], "control_dim": 4}
    settings = table(root, network=net, footage=footage, control_dropout=0.0, **MORE["image_to_video"]) | {
        "folder": str(tmp_path / "out")
    }
    recipe = made(
        "image_to_video", {**settings, "card": {"strategy_options": {"overlap": 1}, "steps": 2}}, tmp_path / "run"
    )
    sample = recipe.draw(0, rng(0))
    assert sample.control.shape == (*sample.sigma.shape, 4) and sample.control.max() > 0
    samples = [recipe.draw(step, rng(step)) for step in range(30)]
    found = {tuple(captions) for sample in samples for captions in sample.captions}
    assert any([words for _, words in captions] == ["a rabbit", "grass"] and captions[1][0] > 0 for captions in found)
    train(recipe, SHORT.with_changes(steps=1), tmp_path / "run", quiet, {"image_to_video": settings})
    assert (
        recipe.evaluate(1, tmp_path) == {}
        and recipe.scores() == ()
        and load(tmp_path / "run" / "model").features.control_width == 1
    )
    inner = {**settings, "init": str(tmp_path / "run" / "model"), "network": {}}
    again = made(
        "error_recycling",
        {"recipe": "image_to_video", "lora": {"rank": 2}, "settings": inner},
        tmp_path / "error_recycling",
    )
    assert torch.isfinite(again.loss(0, rng(0)).total)
    with pytest.raises(ValueError, match=r"signal \(sound\): set control_dim = 4"):
        made(
            "image_to_video",
            {**settings, "network": {**NETWORK, **NETS["image_to_video"], "text_dim": 24}},
            tmp_path / "without",
        )


@pytest.mark.long
def test_a_lora_trains_on_real_clips(tmp_path):
    """On top of pocket, with its vae, frame rate and size; the loss of one batch falls."""
    (tmp_path / "in").mkdir()
    shutil.copy(real("carphone_pristine.mp4"), tmp_path / "in")
    prepare(tmp_path / "in", tmp_path / "out", Request(Rules(min_side=100), "none", captioner="filename"))
    inner = {
        "init": "pocket",
        "folder": str(tmp_path / "out"),
        "footage": {"seconds": [1.0]},
        "frames": 14,
        "eval_prompts": 0,
    }
    settings = {"recipe": "flow_matching", "rank": 8, "settings": inner}
    recipe = made("lora", settings, tmp_path / "run")

    def loss():
        with torch.no_grad():
            found = recipe.loss(0, rng(3))
            return float(found.total / found.weight)

    before = loss()
    train(recipe, SHORT.with_changes(steps=10, lr=2e-3, save_every=0), tmp_path / "run", quiet, {"lora": settings})
    assert loss() < 0.9 * before
    assert (tmp_path / "run" / "lora.safetensors").exists()
    assert {clip.bucket.frames for clip in recipe.inner.video.data.clips} == {25}


def test_a_folder_without_frame_rate_or_manifest_is_refused(root, tmp_path):
    settings = table(root)
    with pytest.raises(ConfigError, match="set `fps` and `sizes`"):
        made("flow_matching", {**settings, "footage": {}}, tmp_path)
    with pytest.raises(ValueError, match="longtake data prepare"):
        made("flow_matching", {**settings, "folder": str(tmp_path)}, tmp_path)


def test_a_released_checkpoint_learns_with_its_own_text_encoder(root, tmp_path):
    """A folder as diffusers writes it: umT5 with its own length of prompts, and a vae whose latents it learns from."""
    model = released.diffusers(tmp_path / "model", released.parts("t2v"))
    settings = {"init": str(model), "folder": str(root / "out"), "frames": 20, "eval_prompts": 0}
    footage = {"fps": 24.0, "seconds": [0.7], "sizes": ["64x32"]}
    recipe = made("flow_matching", {**settings, "footage": footage}, tmp_path / "run")
    sample = recipe.draw(0, rng(0))
    assert sample.video.shape[1] == recipe.module.config.in_channels and torch.isfinite(recipe.loss(0, rng(0)).total)
    direct = UmT5Text(recipe.video.text.encoder, released.tokenizer())
    words = ["a man on a bike &amp; a bus"]
    assert torch.equal(recipe.video.text.encode(words), direct.encode(words))
    with pytest.raises(ConfigError, match="set `fps` and `sizes`"):
        made("flow_matching", settings, tmp_path / "other")


def test_image_features_of_a_shot_are_cached(root, tmp_path, monkeypatch):
    eyes, looked, see = released.parts("i2v").image_encoder, [], ClipVision.encode_image
    weights.save(eyes, eyes.config, tmp_path / "eyes", name="model")
    monkeypatch.setattr(ClipVision, "encode_image", lambda self, image: looked.append(1) or see(self, image))
    network = {**NETS["image_to_video"], "image_dim": 14, "added_kv_proj_dim": 24}
    settings = table(root, network=network, image_encoder=str(tmp_path / "eyes"), **MORE["image_to_video"])
    settings["footage"]["cache"] = str(tmp_path / "cache")
    drawn = [made("image_to_video", settings, tmp_path / name).draw(0, rng(0)).image for name in ("a", "b")]
    assert torch.equal(*drawn) and drawn[0].shape[1:] == (5, 14)
    assert len(looked) == len({tuple(row.flatten().tolist()) for row in drawn[0]})


# ---------------------------------------------------------------- held-out clips
@pytest.mark.parametrize("name", ["flow_matching", "diffusion_forcing", "image_to_video"])
def test_held_out_clips_are_never_trained_on_and_give_a_validation_loss(name, root, tmp_path):
    more = MORE.get(name, {})
    footage = {"held_out": 0.3, "seconds": [0.7], "cache": str(tmp_path / "latents")}
    net = {"in_channels": 10} if name == "image_to_video" else {}
    settings = table(root, footage=footage, network=net, eval_prompts=1, **more)
    recipe = made(name, settings, tmp_path / "run")
    footage = recipe.video.data
    trained = {number for _, numbers in footage.buckets for number in numbers}
    assert trained and footage.held_out and trained | footage.held_out == set(range(len(footage)))
    assert not trained & footage.held_out
    for seed in range(20):
        spec = recipe.video.batch_spec(0, torch.Generator().manual_seed(seed))
        assert set(spec.numbers) <= trained
    scores = recipe.evaluate(0, tmp_path)
    assert set(scores) == set(recipe.scores()) == {"val_loss", *(f"val_loss_{s}" for s in (0.1, 0.3, 0.5, 0.7, 0.9))}
    assert all(value > 0 for value in scores.values())
    assert (tmp_path / "sheet-000000.png").exists()
    assert recipe.evaluate(0, tmp_path) == scores, "the same clips, noise and sigmas every time"
    assert recipe.dataset()["held_out"] == len(footage.held_out)
