"""Clips of several durations and sizes in one batch: the same tokens, at the same places, as in the whole clips."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from longtake.core.errors import ConfigError
from longtake.data.prepare import Request, prepare
from longtake.data.rules import Rules
from longtake.models import load
from longtake.models.checkpoints import loading as weights
from longtake.models.lora.read import read as read_lora
from longtake.models.ltx import config as ltx_config
from longtake.models.ltx import transformer as ltx
from longtake.models.ltx import vae as ltx_vae
from longtake.models.ltx import vae_config as ltx_vae_config
from longtake.models.ltx.layout.lora_names import KEY_FORMAT
from longtake.pipelines.generate import generate
from longtake.pocket import parse, render
from longtake.pocket.clips import Source
from longtake.train.datasets.bucket_batches import PrefixConditioning
from longtake.train.datasets.bucket_clips import fill_clips
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.multi_resolution.config import MultiResolutionConfig
from longtake.train.multi_resolution.whole_clips import WholeClips
from longtake.train.recipes.multi_resolution import MultiResolution
from longtake.train.recipes.registry import RECIPES
from tests.checkpoints import random_text
from tests.data.clips import moving, write

MIXED = dict(seconds=(1.0, 1.5), sizes=("32x32", "40x24"), clips=3, batch={"tokens": 600}, eval_prompts=0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """An untrained VAE and text encoder."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = ltx_vae_config.tiny()
    vae = ltx_vae.LTXVAE(config)
    vae.latents_std.fill_(0.5)
    weights.save(vae, config, folder / "vae", kind="AutoencoderKLLTXVideo")
    random_text(folder, 10)
    return folder


@pytest.fixture(scope="module")
def table(parts, tmp_path_factory):
    network = asdict(ltx_config.tiny(num_layers=1, caption_channels=10))
    found = {**MIXED, "text": str(parts), "vae": str(parts / "vae"), "network": network}
    run = tmp_path_factory.mktemp("run")
    MultiResolution(found, run)
    return {**found, "data": str(run / "latents")}


@pytest.fixture
def recipe(table, tmp_path):
    torch.manual_seed(0)
    made = MultiResolution({**table, "batch": {"tokens": 900}}, tmp_path)
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
        counts = [pair.tokens for pair in batch.buckets]
        assert kept <= min(counts) and min(counts) >= 0.8 * max(counts) and kept >= 0.8 * max(counts)
        for tensor in (batch.sigma, batch.sprite, batch.is_context, batch.rope):
            assert tensor.shape[:2] == (count, kept)
    assert any(len(set(batch.buckets)) > 1 for batch in found)
    seen = {pair for batch in found for pair in batch.buckets}
    assert seen == set(recipe.buckets) and len(seen) == 4


def test_a_batch_gives_the_velocities_of_each_clip_alone(recipe):
    """Tokens of a batch are those of whole clips with some left out: same values, same places, same velocity."""
    batch = next(b for b in batches(recipe, 20) if len(set(b.buckets)) > 1)
    with torch.no_grad():
        together = recipe.velocity(batch)
        for row, (pair, keep) in enumerate(zip(batch.buckets, batch.kept)):
            latents = torch.zeros(1, pair.tokens, 4)
            video, noise, sigma = latents.clone(), latents.clone(), torch.zeros(1, pair.tokens)
            video[0, keep], noise[0, keep], sigma[0, keep] = batch.video[row], batch.noise[row], batch.sigma[row]
            grids = (part.transpose(1, 2).unflatten(2, pair.shape) for part in (video, noise))
            at = sigma.unflatten(1, pair.shape)
            x = torch.lerp(*grids, at[:, None])
            alone = recipe.module(x, at, recipe.parts.text.encode([batch.captions[row]]), keep=keep[None])
            assert torch.allclose(alone[0].T, together[row], atol=1e-5)


def test_a_short_clip_is_the_beginning_of_a_long_one(recipe):
    """Clips are encoded once, at the longest duration."""
    for pair in recipe.buckets:
        tokens, _ = recipe.clips.clip(pair, 1)
        clip = recipe.clips.pocket_clip(pair, 1)
        frames = render(clip, 0, pair.frames, (pair.height, pair.width)).frames
        want = recipe.parts.vae.encode((frames * 2 - 1).transpose(0, 1)[None])[0].flatten(1).T
        assert torch.allclose(tokens, want, atol=2e-2)  # kept in half precision
        words = recipe.clips.caption(pair, 1, random.Random(0))
        assert parse(words)["colour"] == clip.scenes[0].facts.colour


def test_a_run_on_short_clips_uses_the_latents_of_longer_ones(table, recipe, tmp_path):
    short = MultiResolution({**table, "seconds": (1.0,)}, tmp_path)
    assert {pair.frames for pair in short.buckets} == {25}
    for pair in short.buckets:
        assert torch.equal(short.clips.clip(pair, 1)[0], recipe.clips.clip(pair, 1)[0])
        assert short.clips.caption(pair, 1, random.Random(5)) == recipe.clips.caption(pair, 1, random.Random(5))


def test_captions_are_those_of_the_run_that_filled_the_folder(table, recipe, tmp_path):
    """Also for a run of other sizes and another seed."""
    other = MultiResolution({**table, "sizes": ("32x32",), "seed": 9}, tmp_path)
    for pair in other.buckets:
        assert torch.equal(other.clips.clip(pair, 1)[0], recipe.clips.clip(pair, 1)[0])
        assert other.clips.caption(pair, 1, random.Random(5)) == recipe.clips.caption(pair, 1, random.Random(5))
    assert other.clips.facts()["seed"] == 3 and recipe.clips.facts()["seed"] == 0


def test_latents_of_another_vae_are_refused(table, tmp_path):
    vae = ltx_vae.load(Path(table["vae"]), torch.float32)
    vae.latents_std.fill_(0.7)
    weights.save(vae, vae.config, tmp_path / "vae", kind="AutoencoderKLLTXVideo")
    with pytest.raises(ValueError, match="was encoded by another VAE"):
        MultiResolution({**table, "vae": str(tmp_path / "vae")}, tmp_path / "run")


# ---------------------------------------------------------------- given frames
def test_given_frames_are_clean_and_have_no_loss(table, tmp_path):
    recipe = MultiResolution(
        {**table, "prefix": {"first_frame_share": 0.5, "several_share": 0.5, "counts": [2]}}, tmp_path
    )
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    batch = recipe.draw(0, torch.Generator().manual_seed(1))
    assert batch.is_context.any(1).all() and not batch.is_context.all()
    assert (batch.sigma[batch.is_context] == 0).all() and (batch.sigma[~batch.is_context] > 0).any()
    other = torch.where(batch.is_context[..., None], 9.0, batch.noise)
    losses = []
    for noise in (batch.noise, other):
        recipe.sampler = lambda rng, noise=noise: replace(batch, noise=noise)
        loss = recipe.loss(0, torch.Generator())
        losses.append(loss.total / loss.weight)
    assert torch.equal(*losses)


def test_prefixes_are_as_frequent_as_configured():
    given, rng = PrefixConditioning(0.3, 0.4, (2, 4), 0.25), random.Random(0)
    found = [given.draw(16, rng) for _ in range(4000)]
    kinds = [(int(known.sum()), bool(known[0])) for known in found]
    share = lambda *wanted: sum(kind in wanted for kind in kinds) / len(kinds)
    assert share((0, False)) == pytest.approx(0.3, abs=0.03)
    assert share((1, True)) == pytest.approx(0.3, abs=0.03)
    assert share((2, True), (4, True)) == pytest.approx(0.3, abs=0.03)
    assert share((2, False), (4, False)) == pytest.approx(0.1, abs=0.03)
    assert not given.draw(2, random.Random(1)).all()


# ---------------------------------------------------------------- from the run to a model
def test_a_finished_run_generates_a_relay_of_any_size(table, tmp_path):
    table = {**table, "card": {"strategy_options": {"window": 25, "overlap": 1}, "steps": 1}}
    recipe = MultiResolution(table, tmp_path)
    train(
        recipe, LoopConfig.of(steps=1, warmup=0, save_every=0), tmp_path, lambda line: None, {"multi_resolution": table}
    )
    model = load(tmp_path / "model")
    assert (
        model.info.family == "ltx"
        and model.defaults.strategy == "relay"
        and model.limits.max_latent_frames == 6
        and model.decoding.noise_sigma == 0.05
    )
    frames = list(generate("a red circle", model, seconds=60 / 24, guidance=1.0, height=24, width=40))
    assert sum(len(part) for part in frames) == 60 and frames[0].shape[1:] == (24, 40, 3)
    about = json.loads((tmp_path / "model" / "longtake.json").read_text())
    assert about["clips"] == {**asdict(Source(recipe.clips.longest, 0.0)), "count": 6}
    onward = {**table, "init": str(tmp_path / "model"), "network": {}, "vae": "", "text": ""}
    assert MultiResolution(onward, tmp_path / "on").module.config == recipe.module.config
    released = {**table, "network": {k: v for k, v in table["network"].items() if k != "causal_temporal_positioning"}}
    assert MultiResolution(released, tmp_path / "new").module.config.causal_temporal_positioning


def test_a_folder_keeps_its_clips(recipe, table):
    root, found = recipe.config.data, recipe.buckets
    calls = []
    fill_clips(type(recipe.vae_folder)(root), found, 3, 0, calls.append, report=calls.append)
    assert not calls
    with pytest.raises(ValueError, match="holds other clips"):
        fill_clips(type(recipe.vae_folder)(root), found, 3, 7, calls.append, report=calls.append)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vae": ""}, "set `vae`, the folder of an LTX VAE"),
        ({"text": ""}, "set `text`"),
        ({"sizes": ()}, "at least one duration"),
        ({"sizes": ("32x30",)}, "use multiples of 8 pixels"),
        ({"batch": {"max_token_dropout": 1.0}}, "max_token_dropout is 1.0"),
        ({"sigma_distribution": "none"}, '"mended" or "published"'),
        ({"prefix": {"first_frame_share": 0.7, "several_share": 0.7}}, "add up to 1.4"),
        ({"prefix": {"counts": []}}, "at least one"),
        ({"network": asdict(ltx_config.tiny(in_channels=8, caption_channels=10))}, "set in_channels = 4"),
        ({"network": asdict(ltx_config.tiny(caption_channels=11))}, "set caption_channels = 10"),
        ({"data": "nowhere"}, "encode clips first"),
    ],
)
def test_wrong_settings_are_refused(table, tmp_path, changes, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        MultiResolution({**table, **changes}, tmp_path)


def test_the_corrected_sigmas_reach_low_noise():
    generator = torch.Generator().manual_seed(0)
    configs = (MultiResolutionConfig(vae="a", text="a", sigma_distribution=kind) for kind in ("mended", "published"))
    mended, published = (config.draw_sigmas(generator, 4000, 12_000) for config in configs)
    assert float((mended < 0.3).float().mean()) > 0.02 > float((published < 0.3).float().mean())


# ---------------------------------------------------------------- real clips
@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A wide and a tall video of 40 frames, prepared; one has a caption."""
    root = tmp_path_factory.mktemp("videos")
    write(root / "in" / "wide.mp4", moving(1, 40, 48, 72))
    write(root / "in" / "tall.mp4", moving(2, 40, 72, 48))
    (root / "in" / "wide.txt").write_text("blocks that move")
    assert prepare(root / "in", root / "out", Request(Rules(min_seconds=0.5, min_side=48), "none")).kept == 2
    return root / "out"


def test_a_prepared_folder_is_trained_as_well(table, prepared, tmp_path):
    """Shots of several shapes go into one batch, with their captions; generated videos have their size and frame rate."""
    real = {
        **table, "data": "", "folder": str(prepared), "seconds": (2.0, 1.0), "sizes": ("48x32", "32x48"),
        "footage": {"fps": 16.0, "cache": str(tmp_path / "cache")}, "batch": {"tokens": 600, "caption_dropout": 0.0},
        "card": {"strategy_options": {"window": 17, "overlap": 1}, "steps": 1},
    }  # fmt: skip
    recipe = MultiResolution(real, tmp_path / "run")
    assert {pair.name for pair in recipe.buckets} == {"33 x 48x32", "33 x 32x48"}
    batch = recipe.draw(0, torch.Generator().manual_seed(0))
    assert set(batch.buckets) == set(recipe.buckets) and set(batch.captions) == {"blocks that move", ""}
    for row, (pair, keep) in enumerate(zip(batch.buckets, batch.kept)):
        number = next(n for n, clip in enumerate(recipe.footage.clips) if clip.bucket == pair)
        assert torch.equal(batch.video[row], recipe.footage.latents(number).flatten(1).T[keep])
        frames, rows, columns = pair.shape
        assert torch.equal(batch.rope[row], recipe.module.rope_table(range(frames), rows, columns, 16.0)[keep])
    train(
        recipe,
        LoopConfig.of(steps=1, warmup=0, save_every=0),
        tmp_path / "run",
        lambda line: None,
        {"multi_resolution": real},
    )
    model = load(tmp_path / "run" / "model")
    assert model.fps == 16 and model.size == recipe.footage.usual_size
    assert recipe.evaluate(1, tmp_path) == {} and recipe.dataset()["clips"] == 2


def test_footage_needs_a_folder(table, tmp_path):
    with pytest.raises(ValueError, match="set `folder` too"):
        MultiResolution({**table, "footage": {"fps": 16.0}}, tmp_path)


def test_an_evaluation_scores_videos_of_the_network(table, tmp_path):
    card = {"strategy_options": {"window": 41, "overlap": 1}, "steps": 1, "guidance_scale": 1.0}
    recipe = MultiResolution({**table, "eval_prompts": 1, "card": card}, tmp_path)
    with torch.no_grad():
        scores = recipe.evaluate(7, tmp_path)
    assert set(scores) == {"colour", "shape", "motion", "scenery"} and (tmp_path / "sheet-000007.png").exists()


def test_a_lora_is_trained_on_top_and_read_again(table, tmp_path):
    lora = {"recipe": "multi_resolution", "rank": 2, "settings": table}
    recipe = RECIPES["lora"].make(lora, tmp_path, RECIPES)
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    train(recipe, LoopConfig.of(steps=2, lr=1e-2, warmup=0, save_every=0), tmp_path, lambda line: None, {"lora": lora})
    trained = [name for name, weight in recipe.module.named_parameters() if weight.requires_grad]
    assert all(".down." in name or ".up." in name for name in trained)
    assert len(trained) == 2 * 10, (
        "down and up of each layer of attention and feed-forward, by the names of this family"
    )
    plain = ltx.LTXTransformer(ltx_config.tiny(num_layers=1, caption_channels=10))
    assert read_lora(tmp_path / "lora.safetensors", plain, KEY_FORMAT)


@pytest.mark.parametrize("recipe", ["lora", "error_recycling"])
def test_targets_of_another_family_are_refused_before_anything_is_encoded(table, tmp_path, recipe):
    own = {"targets": ["to_q", "ffn.net.2"]}
    table = {key: value for key, value in table.items() if key != "data"}
    outer = {"recipe": "multi_resolution", "settings": table} | (own if recipe == "lora" else {"lora": own})
    with pytest.raises(
        ConfigError, match=r"ends with ffn\.net\.2: the layers are .*transformer_blocks\.\*\.ff\.net\.2"
    ):
        RECIPES[recipe].make(outer, tmp_path / "run", RECIPES)
    assert not (tmp_path / "run").exists()


WHOLE = {"seconds": (1.0,), "sizes": ("32x32",), "batch": {"tokens": 600, "max_token_dropout": 0.0}}


def test_whole_clips_are_samples_whose_velocities_are_those_of_their_tokens(table, tmp_path):
    whole_recipe = MultiResolution(
        {**table, **WHOLE, "prefix": {"first_frame_share": 0.5, "several_share": 0.0}}, tmp_path
    )
    torch.nn.init.normal_(whole_recipe.module.proj_out.weight)
    whole = WholeClips(whole_recipe)
    batch, sample = (draw(0, torch.Generator().manual_seed(3)) for draw in (whole_recipe.draw, whole.draw))
    with torch.no_grad():
        assert torch.allclose(whole.velocity(sample).flatten(2).mT, whole_recipe.velocity(batch), atol=1e-5)
    assert (
        sample.is_context.any()
        and (sample.sigma[sample.is_context] == 0).all()
        and (sample.sigma[~sample.is_context] > 0).all()
    )


def test_errors_are_recycled_on_clips_of_one_shape(table, tmp_path):
    outer = {
        "recipe": "multi_resolution",
        "sigma_distribution": "recipe",
        "errors": {"clean_prob": 0.0},
        "bank": {"capacity": 20},
        "lora": {"rank": 2},
    }
    table = {**table, **WHOLE, "prefix": {"first_frame_share": 1.0, "several_share": 0.0}}
    recipe = RECIPES["error_recycling"].make({**outer, "settings": table}, tmp_path, RECIPES)
    torch.nn.init.normal_(recipe.module.proj_out.weight)
    train(
        recipe,
        LoopConfig.of(steps=3, lr=1e-2, warmup=0, save_every=0),
        tmp_path,
        lambda line: None,
        {"error_recycling": outer},
    )
    assert len(recipe.bank) and (tmp_path / "lora.safetensors").exists()
    with pytest.raises(ConfigError, match="one of sizes"):
        RECIPES["error_recycling"].make(
            {**outer, "settings": {**table, "sizes": ("32x32", "40x24")}}, tmp_path / "other", RECIPES
        )
