"""The laws that every registered recipe must keep: the loss falls, by trainable weights alone, the same for one seed."""

import random
from dataclasses import replace

import pytest
import torch

from longtake.models import load
from longtake.models.text import WordText
from longtake.models.wan_codec import WanCodecConfig
from longtake.train.data import Latents, Source, fill_cache
from longtake.train.loop import Settings, train
from longtake.train.recipes import RECIPES
from longtake.train.recipes.codec import CodecRecipe
from longtake.train.recipes.forcing import ForcingRecipe, first_frame
from longtake.train.recipes.text import TextRecipe
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
NETWORK = dict(
    num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
    num_layers=1, view=9,
)  # fmt: skip
RATE = {"codec": 3e-3, "text": 2e-2, "forcing": 5e-3}
SHORT = Settings(steps=30, lr=3e-3, warmup=3, save=0, log=30)


def quiet(line):
    pass


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A text encoder and a codec, hardly trained, and latents of eight clips."""
    folder = tmp_path_factory.mktemp("material")
    few = replace(SHORT, steps=1)
    torch.manual_seed(0)
    train(TextRecipe(TEXT, folder / "text"), few, folder / "text", quiet)
    codec = CodecRecipe(CODEC, folder / "run")
    train(codec, few, folder / "run", quiet)
    fill_cache(folder / "latents", SOURCE, 8, codec.module.encode, report=quiet)
    return folder


@pytest.fixture(scope="module")
def tables(material):
    forcing = dict(
        text=str(material / "text"), data=str(material / "latents"), codec=str(material / "run" / "codec"),
        network=NETWORK, frames=54, lengths=((0.5, (5, 9)), (1.0, (9,))), steps=30, judged=0,
    )  # fmt: skip
    return {"codec": CODEC, "text": TEXT, "forcing": forcing}


def test_every_recipe_is_tested(tables):
    assert set(tables) == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls(name, tables, tmp_path):
    torch.manual_seed(0)
    recipe = RECIPES[name](tables[name], tmp_path)

    def loss():
        with torch.no_grad():
            return float(recipe.loss(29, torch.Generator().manual_seed(5)))

    before = loss()
    train(recipe, replace(SHORT, lr=RATE[name]), tmp_path, quiet, {name: tables[name]})
    assert loss() < 0.93 * before


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_only_in_trainable_weights(name, tables, tmp_path):
    recipe = RECIPES[name](tables[name], tmp_path)
    first, *others = recipe.module.parameters()
    first.requires_grad_(False)
    recipe.loss(29, torch.Generator().manual_seed(1)).backward()
    assert first.grad is None
    assert any(other.grad is not None for other in others)
    frozen = {"forcing": lambda: recipe.text.encoder.parameters()}.get(name, list)()
    assert all(weight.grad is None for weight in frozen)


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_loss(name, tables, tmp_path):
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        recipe = RECIPES[name](tables[name], tmp_path)
        if name == "forcing":
            torch.nn.init.normal_(recipe.module.proj_out.weight)
        with torch.no_grad():
            losses.append(float(recipe.loss(3, torch.Generator().manual_seed(seed))))
    assert losses[0] == losses[1] != losses[2]


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


def test_the_sprite_is_where_the_latents_see_it(material):
    data = Latents(material / "latents")
    assert len(data) == 8 and data.latents.shape[1:] == (4, 11, 8, 8)
    assert data.sprite.min() >= 0 and 0.02 < data.sprite.float().mean() < 0.4


def test_a_caption_tells_the_first_new_frame(tables, tmp_path):
    """In a window with history the caption is true of the first frame that is made, even just after a switch."""
    recipe = ForcingRecipe({**tables["forcing"], "drop": 0.0}, tmp_path)
    batch = recipe.batch(9, torch.Generator().manual_seed(2))
    assert batch.video.shape == (6, 4, 9, 8, 8) and batch.level.shape == (6, 9) and all(batch.captions)
    for number in range(40):
        chance = random.Random(number)
        video, _, words = recipe._window(0, 5, 9, chance)
        starts = [
            (n, s)
            for n in range(8)
            for s in range(3)
            if torch.equal(recipe.data.latents[n, :, s : s + 9].float(), video)
        ]
        facts = [recipe.data.clips[n].facts_at(first_frame(s + 5)) for n, s in starts]
        assert any(parse(words)["colour"] == fact.colour and parse(words)["motion"] == fact.motion for fact in facts)


def test_a_finished_run_is_a_model(tables, tmp_path):
    recipe = ForcingRecipe(tables["forcing"], tmp_path)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"forcing": tables["forcing"]})
    model = load(tmp_path / "model")
    assert model.limits.view == 9 and model.plan == "sliding" and model.vocabulary
    assert not list(tmp_path.glob(".model*"))


def test_a_config_that_cannot_be_followed_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="give the folder of a codec"):
        ForcingRecipe({"text": "", "network": NETWORK}, tmp_path)
    with pytest.raises(ValueError, match="say the steps"):
        ForcingRecipe({**tables["forcing"], "steps": 0}, tmp_path)
