"""The laws that every registered recipe must keep: the loss falls, by trainable weights alone, the same for one seed."""

import json
import random
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.api import generate
from longtake.engine import Rollout
from longtake.events import Frames
from longtake.models import load, ltx, ltx_codec_config, wan_codec
from longtake.models.lora import Merged
from longtake.models.lora_file import read as read_lora
from longtake.models.text import WordText
from longtake.models.wan_codec import WanCodecConfig
from longtake.models.wan_lora import SPELLING, SVI_TARGETS
from longtake.script import Script
from longtake.settings import Settings as Settled
from longtake.train.config import ConfigError
from longtake.train.data import Latents, Source, fill_cache, first_frame
from longtake.train.export import export
from longtake.train.levels import Pattern
from longtake.train.loop import Settings, train
from longtake.train.lot import Lot
from longtake.train.mixed import fill_clips
from longtake.train.pairs import pairs
from longtake.train.recipes import RECIPES, VIDEO, distil, forcing
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.text import TextRecipe
from longtake.train.sample import velocity
from longtake.train.shards import Loss
from longtake.train.start import network
from longtake.world import parse

SOURCE = Source(frames=41, switch=0.5, seed=3)
TEXT = dict(network=dict(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), batch=16)
CODEC = dict(
    network=dict(
        base_dim=4, decoder_base_dim=4, z_dim=4, dim_mult=(1, 1, 1), num_res_blocks=1, temperal_downsample=(True, True),
        in_channels=12, out_channels=12, patch_size=2, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
    ),
    frames=10, lengths=(1, 5), judged=1, measured=2,
)  # fmt: skip
LTX_CODEC = dict(family="ltx", network=asdict(ltx_codec_config.tiny()), frames=18, lengths=(1, 9), judged=1, measured=2)
MIXED = dict(seconds=(1.0, 1.5), sizes=((32, 32), (24, 40)))
LTX_NETWORK = asdict(ltx.tiny(num_layers=1, caption_channels=16))
NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
    num_layers=1, view=9,
)  # fmt: skip
RATE = {"codec": 3e-3, "text": 2e-2, "distil": 3e-3, "lora": 2e-2, "recycle": 2e-2}
SHORT = Settings(steps=30, lr=3e-3, warmup=3, save=0, log=30)


def quiet(line):
    pass


def mean(loss):
    return loss.total / loss.weight if isinstance(loss, Loss) else loss


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A text encoder and a codec of either family, hardly trained, and latents of eight clips."""
    folder = tmp_path_factory.mktemp("material")
    few = replace(SHORT, steps=1)
    torch.manual_seed(0)
    train(TextRecipe(TEXT, folder / "text"), few, folder / "text", quiet)
    codec = CodecRecipe(CODEC, folder / "run")
    train(codec, few, folder / "run", quiet)
    fill_cache(folder / "latents", SOURCE, 8, codec.module.encode, report=quiet)
    codec = CodecRecipe(LTX_CODEC, folder / "ltx")
    train(codec, few, folder / "ltx", quiet)
    fill_clips(folder / "clips", pairs(*MIXED.values(), 8, 8, 24.0), 8, 0, codec.module.encode, report=quiet)
    return folder


@pytest.fixture(scope="module")
def tables(material):
    common = dict(
        text=str(material / "text"), data=str(material / "latents"), codec=str(material / "run" / "codec"), frames=54,
        judged=0,
    )  # fmt: skip
    forcing = {**common, "network": NETWORK, "lengths": ((0.5, (5, 9)), (1.0, (9,))), "steps": 30}
    start = material / "start"  # a network that has learnt enough to listen to captions
    torch.manual_seed(0)
    train(RECIPES["forcing"](forcing, start), replace(SHORT, lr=5e-3), start, quiet, {"forcing": forcing})
    short = {**common, "lengths": ((1.0, (9,)),)}
    onward = {**short, "init": str(start)}
    return {
        "codec": CODEC, "text": TEXT, "forcing": forcing, "flow": {**short, "network": NETWORK},
        "causal": {**short, "network": {**NETWORK, "causal": True, "block": 3, "view": 6}},
        "i2v": {**short, "network": {**NETWORK, "in_channels": 12}, "given": {"counts": (1, 5), "weights": (0.5, 0.5)}},
        "distil": {"recipe": "flow", "guidance": 20.0, "settings": onward},
        "lora": {"recipe": "flow", "rank": 4, "targets": ["to_q", "to_v", "ffn.net.2", "proj_out"], "settings": onward},
        "mixed": {
            **MIXED, "text": str(material / "text"), "codec": str(material / "ltx" / "codec"), "network": LTX_NETWORK,
            "data": str(material / "clips"), "drawing": {"tokens": 600}, "judged": 0,
        },
        "recycle": {
            "recipe": "flow", "preset": "none", "rank": 8, "alpha": 8.0, "targets": (*SVI_TARGETS, "proj_out"),
            "settings": {**short, "network": NETWORK},
        },
    }  # fmt: skip


def test_every_recipe_is_tested(tables):
    assert set(tables) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls(name, tables, tmp_path):
    torch.manual_seed(0)
    recipe = RECIPES[name](tables[name], tmp_path)

    def loss():
        with torch.no_grad():
            return float(mean(recipe.loss(29, torch.Generator().manual_seed(5))))

    before = loss()
    train(recipe, replace(SHORT, lr=RATE.get(name, 5e-3)), tmp_path, quiet, {name: tables[name]})
    assert loss() < 0.93 * before


@pytest.mark.parametrize("name", RECIPES)
def test_a_best_score_that_no_check_gives_is_refused_at_once(name, tables, tmp_path):
    recipe = RECIPES[name](tables[name], tmp_path)
    with pytest.raises(ConfigError, match=r"best = '-psnrr', but the check gives (\w+|no scores: leave it out)"):
        train(recipe, replace(SHORT, check=30, best="-psnrr"), tmp_path, quiet, {name: tables[name]})
    assert not list(tmp_path.glob("step-*"))
    with torch.no_grad():
        assert set(recipe.check(0, tmp_path)) == set(recipe.scores())


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_only_in_trainable_weights(name, tables, tmp_path):
    recipe = RECIPES[name](tables[name], tmp_path)
    first, *others = (weight for weight in recipe.module.parameters() if weight.requires_grad)
    first.requires_grad_(False)
    mean(recipe.loss(29, torch.Generator().manual_seed(1))).backward()
    assert first.grad is None
    assert any(other.grad is not None for other in others)
    if video := getattr(recipe, "video", None):
        assert all(weight.grad is None for weight in video.text.encoder.parameters())


@pytest.mark.parametrize("name", ["codec", "flow", "forcing", "causal", "i2v", "distil", "lora"])
def test_what_the_network_is_asked_goes_to_where_it_is(name, tables, tmp_path, monkeypatch):
    """The meta device stands for a GPU: it refuses tensors from elsewhere, and nothing can be copied back from it."""
    monkeypatch.setattr(distil, "place", lambda: torch.device("meta"))
    recipe = RECIPES[name](tables[name], tmp_path)
    recipe.module.to("meta")
    loss = mean(recipe.loss(29, torch.Generator().manual_seed(1)))
    assert loss.device.type == "meta"
    loss.backward()


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_loss(name, tables, tmp_path):
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        recipe = RECIPES[name](tables[name], tmp_path)
        if hasattr(recipe.module, "proj_out"):
            torch.nn.init.normal_(recipe.module.proj_out.weight)
        with torch.no_grad():
            losses.append(float(mean(recipe.loss(3, torch.Generator().manual_seed(seed)))))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("forcing", ["codec", "text"]),
        ("mixed", ["codec", "text"]),
        ("lora", ["codec", "init", "text"]),
        ("distil", ["codec", "init", "text"]),
    ],
)
def test_recipes_tell_what_they_read_anew(name, parts, tables, tmp_path):
    found = RECIPES[name](tables[name], tmp_path).frozen()
    assert sorted(found) == parts and all(file.is_file() for files in found.values() for file in files)


# ---------------------------------------------------------------- text
def test_the_text_encoder_is_written_as_the_engine_reads_it(material):
    text = WordText.load(material / "text" / "text_encoder", material / "text" / "tokenizer")
    assert text.encode(["a red ball"]).shape == (1, 32, 16)
    assert text.unknown("a red dragon") == ("dragon",)


# ---------------------------------------------------------------- codec
def test_the_codec_comes_with_its_statistics_and_may_be_gone_on_from(material, tmp_path):
    recipe = CodecRecipe({**CODEC, "start": str(material / "run" / "codec")}, tmp_path)
    config = recipe.module.config
    assert isinstance(config, WanCodecConfig) and config.latents_std != (1.0,) * 4
    latents = Latents(material / "latents").latents.float()
    frames = recipe.batch(torch.Generator().manual_seed(1))[0]
    assert recipe.module.encode(frames).std() < 3
    assert latents.isfinite().all()
    recipe.loss(0, torch.Generator().manual_seed(0)).backward()


def test_a_decoder_trained_alone_leaves_the_latents_as_they_are(material, tmp_path):
    old = wan_codec.load(material / "run" / "codec")
    settings = {**CODEC, "start": str(material / "run" / "codec"), "alone": True}
    train(CodecRecipe(settings, tmp_path), replace(SHORT, steps=2), tmp_path, quiet)
    new, frames = wan_codec.load(tmp_path / "codec"), torch.rand(1, 3, 5, 64, 64) * 2 - 1
    assert torch.equal(old.encode(frames), new.encode(frames)) and new.config == old.config
    assert not torch.equal(*(codec.decode(old.encode(frames)) for codec in (old, new)))
    with pytest.raises(ValueError, match="give `start`, the folder of a codec"):
        CodecRecipe({**CODEC, "alone": True}, tmp_path)


def test_the_sprite_weighs_more(tmp_path):
    losses = []
    for sprite in (0.0, 50.0):
        torch.manual_seed(0)
        recipe = CodecRecipe({**CODEC, "sprite": sprite, "gradient": 0.0, "kl": 0.0}, tmp_path)
        frames, cover = recipe.batch(torch.Generator().manual_seed(0))
        recipe.batch = lambda rng, frames=frames, cover=cover: (frames * 0 + 2 * cover[:, None], cover)
        recipe.module.decode_whole = lambda z, frames=frames: torch.zeros_like(frames)
        losses.append(recipe.loss(0, torch.Generator().manual_seed(0)).item())
    assert losses[1] > 2 * losses[0]


# ---------------------------------------------------------------- forcing
def test_clips_are_encoded_once_and_go_on_where_they_stopped(material, tmp_path):
    calls = []

    def encode(frames):
        calls.append(len(frames))
        return torch.zeros(1, 4, 11, 8, 8)

    fill_cache(tmp_path, SOURCE, 2, encode, report=quiet)
    fill_cache(tmp_path, SOURCE, 2, encode, report=quiet)
    assert len(calls) == 2
    with pytest.raises(ValueError, match="other clips"):
        fill_cache(tmp_path, Source(frames=41), 2, encode, report=quiet)


def test_latents_of_another_codec_are_refused(material, tables, tmp_path):
    shutil.copytree(material / "latents", tmp_path / "latents")
    about = json.loads((tmp_path / "latents" / "cache.json").read_text())
    (tmp_path / "latents" / "cache.json").write_text(json.dumps({**about, "codec": "0" * 64}))
    with pytest.raises(ValueError, match="was encoded by another codec"):
        forcing.make({**tables["forcing"], "data": str(tmp_path / "latents")}, tmp_path / "run")


def test_a_share_of_windows_is_told_the_motion_alone(material):
    data, chance = Latents(material / "latents", brief=0.3), random.Random(4)
    said = [parse(text) for n in range(1000) for _, text in data.told(n % 8, 0, 5, chance)[:1]]
    short = sum("colour" not in facts for facts in said)
    assert abs(short - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5
    assert all(facts["motion"] == data.clips[n % 8].facts_at(0).motion for n, facts in enumerate(said))


def test_the_sprite_is_where_the_latents_see_it(material):
    data = Latents(material / "latents")
    assert len(data) == 8 and data.latents.shape[1:] == (4, 11, 8, 8)
    assert data.sprite.min() >= 0 and 0.02 < data.sprite.float().mean() < 0.4


def test_a_caption_tells_the_first_new_frame(tables, tmp_path):
    """In a window with history the caption is true of the first frame that is made, even just after a switch."""
    recipe = forcing.make({**tables["forcing"], "drop": 0.0}, tmp_path)
    sample, data = recipe.draw(29, torch.Generator().manual_seed(2)), recipe.video.data
    assert sample.video.shape == (6, 4, 9, 8, 8) and sample.level.shape == (6, 9) and all(map(all, sample.told))
    for number in range(40):
        lot, chance = Lot(9, range(8), data.steady, 9), random.Random(number)
        video, _, [(first, words)] = recipe.draw.window(Pattern.HISTORY, 5, lot, chance)
        starts = [
            (n, s) for n in range(8) for s in range(3) if torch.equal(data.latents[n, :, s : s + 9].float(), video)
        ]
        facts = [data.clips[n].facts_at(first_frame(s + 5)) for n, s in starts]
        assert first == 0
        assert any(parse(words)["colour"] == fact.colour and parse(words)["motion"] == fact.motion for fact in facts)


def test_a_finished_run_is_a_model(tables, tmp_path):
    recipe = forcing.make(tables["forcing"], tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"forcing": tables["forcing"]})
    model = load(tmp_path / "model")
    assert model.limits.view == 9 and model.plan == "sliding" and model.vocabulary
    assert not list(tmp_path.glob(".model*"))


def test_a_model_is_written_without_what_it_shares(tables, material, tmp_path):
    run = train(RECIPES["flow"](tables["flow"], tmp_path / "run"), replace(SHORT, steps=1), tmp_path / "run", quiet)
    export(run, material / "run" / "codec", material / "text", tmp_path / "other")
    with pytest.raises(ValueError, match="other/vae is not what the network was trained with"):
        spoilt = shutil.copytree(material / "run" / "codec", tmp_path / "codec")
        file = spoilt / "diffusion_pytorch_model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
        export(run, spoilt, material / "text", tmp_path / "slim", shares="other")
    slim = export(run, material / "run" / "codec", material / "text", tmp_path / "slim", shares="other")
    assert {path.name for path in slim.iterdir() if path.is_dir()} == {"transformer", "scheduler"}
    assert len(list(generate(load(slim), "a red star", seconds=0.2, steps=2))) > 0


def test_a_network_with_unknown_keys_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[codec\.network\] has no key 'base_dimm': did you mean base_dim\?"):
        CodecRecipe({"network": {"base_dimm": 4}}, tmp_path)
    with pytest.raises(ConfigError, match=r"\[text\.network\] has no key 'd_modell': did you mean d_model\?"):
        TextRecipe({"network": {"d_modell": 4}}, tmp_path)


def test_a_config_that_cannot_be_followed_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="give the folder of a codec"):
        forcing.make({"text": "", "network": NETWORK}, tmp_path)
    with pytest.raises(ValueError, match="say the steps"):
        forcing.make({**tables["forcing"], "steps": 0}, tmp_path)
    with pytest.raises(ValueError, match="no text encoder"):
        forcing.make({**tables["forcing"], "text": ""}, tmp_path)
    with pytest.raises(ValueError, match="lengths ask for 12"):
        recipe = RECIPES["flow"]({**tables["flow"], "lengths": [[1.0, [12]]]}, tmp_path)
        recipe.loss(0, torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- from one model to the next
def test_a_finished_causal_run_makes_video_block_by_block(tables, tmp_path):
    recipe = RECIPES["causal"](tables["causal"], tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"causal": tables["causal"]})
    model = load(tmp_path / "model")
    assert model.limits.causal and model.limits.block == 3 and model.limits.view == 6 and model.plan == "blocks"
    frames = list(generate(model, "a red circle", seconds=37 / 24, guidance=1.0, steps=1))
    assert sum(len(part) for part in frames) == 37


def test_a_finished_i2v_run_brings_an_image_to_life(tables, tmp_path):
    recipe = RECIPES["i2v"](tables["i2v"], tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"i2v": tables["i2v"]})
    model = load(tmp_path / "model")
    assert model.limits.context == "beside" and not model.limits.mixed and model.plan == "crossclip"
    settings = Settled.resolve(model, "a red circle", seconds=37 / 24, options={"steps": 1})
    rollout = Rollout(
        model,
        Script.from_facts(settings.script),
        settings.make_plan(),
        start=torch.zeros(1, 3, 1, 64, 64),
        guidance=1.0,
    )
    assert sum(event.frames.shape[1] for event in rollout.run() if isinstance(event, Frames)) == 37


def test_a_distilled_model_needs_one_branch(tables, tmp_path):
    recipe = RECIPES["distil"](tables["distil"], tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"distil": tables["distil"]})
    model = load(tmp_path / "model")
    assert model.guidance == 1.0
    calls, session = [], model.session

    def counted():
        inner = session()
        inner.session.net.register_forward_hook(lambda net, args, out: calls.append(len(out)))
        return inner

    model.session = counted
    list(generate(model, "a red circle", seconds=33 / 24, steps=2))
    assert calls == [1, 1]


def test_a_lora_is_written_as_it_is_read(tables, tmp_path):
    table = tables["lora"]
    recipe = RECIPES["lora"](table, tmp_path)
    train(recipe, replace(SHORT, steps=2, save=1), tmp_path, quiet, {"lora": table})
    recipe.finish(tmp_path / "now")  # the files beside the checkpoints hold the average
    assert (tmp_path / "lora.safetensors").exists() and (tmp_path / "lora").is_dir()
    sample = recipe.inner.draw(0, torch.Generator().manual_seed(0))
    trained = recipe.inner.video.velocity(sample)
    base, _ = network({}, table["settings"]["init"], quiet)
    plain = velocity(base, sample, recipe.inner.video.text.encode)
    merged = Merged(base)
    for name in ("lora.safetensors", "lora"):
        merged.use([(read_lora(tmp_path / "now" / name, base, SPELLING), 1.0)])
        found = velocity(base, sample, recipe.inner.video.text.encode)
        assert (found - plain).abs().max() > 1e-4
        assert torch.allclose(found, trained, atol=1e-5)
    assert json.loads((tmp_path / "data.json").read_text())["clips"] == 8
    assert recipe.describe(0, torch.Generator().manual_seed(0)).startswith("9 latents each; ")
    kept = load_file(tmp_path / "step-000002" / "model.safetensors")
    assert all(".down." in key or ".up." in key for key in kept)


@pytest.mark.parametrize("name", VIDEO)
def test_a_lora_goes_with_every_video_network(name, tables, tmp_path):
    recipe = RECIPES["lora"]({"recipe": name, "rank": 2, "targets": ["to_q"], "settings": tables[name]}, tmp_path)
    mean(recipe.loss(0, torch.Generator().manual_seed(0))).backward()
    trained = {key for key, weight in recipe.module.named_parameters() if weight.grad is not None}
    assert trained and all(".down." in key or ".up." in key for key in trained)


@pytest.mark.parametrize("name", ["codec", "text", "recycle", "lora"])
def test_a_lora_is_for_video_networks(name, tables, tmp_path):
    with pytest.raises(ValueError, match=f"is '{name}', but a LoRA is for a video network: it is one of flow, forcing"):
        RECIPES["lora"]({"recipe": name, "settings": tables[name]}, tmp_path)
