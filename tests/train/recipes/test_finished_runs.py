"""From one model to the next: what runs of each recipe write, read again as models, and configs that are refused."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.core.errors import ConfigError
from longtake.engine.build import build_rollout
from longtake.engine.events import Frames
from longtake.engine.inputs import RolloutInputs
from longtake.models import load
from longtake.models.encoders.word_text import WordText
from longtake.models.lora.merge import MergedLoras
from longtake.models.lora.read import read as read_lora
from longtake.models.wan import vae as wan_vae
from longtake.models.wan.layout.lora_names import KEY_FORMAT
from longtake.models.wan.vae_config import WanVAEConfig
from longtake.pipelines.generate import generate
from longtake.pipelines.settings.run_settings import RunSettings
from longtake.planning.script import Script
from longtake.pocket import parse
from longtake.pocket.clips import Source
from longtake.testing.recipes import SOURCE, mean_loss, short_loop
from longtake.train.datasets.clip_dataset import BatchSpec
from longtake.train.datasets.pocket import PocketLatents, fill_cache, first_frame
from longtake.train.loop import train
from longtake.train.objectives.sigma_sampling import Pattern
from longtake.train.objectives.velocity import velocity
from longtake.train.recipes import guidance_distillation as distil
from longtake.train.recipes.registry import RECIPES
from longtake.train.recipes.text_encoder import TextEncoderRecipe
from longtake.train.recipes.vae import VAERecipe
from longtake.train.weights.export import export
from longtake.train.weights.init_weights import network

SHORT = short_loop(3e-3)


def quiet(line):
    pass


@pytest.fixture(scope="module")
def tables(tiny_parts):
    """The small table of every recipe."""
    return {name: RECIPES[name].part("tiny")(tiny_parts) for name in RECIPES}


@pytest.mark.parametrize(
    "name",
    ["vae", "flow_matching", "diffusion_forcing", "block_causal", "image_to_video", "guidance_distillation", "lora"],
)
def test_inputs_move_to_the_device_of_the_network(name, tables, tmp_path, monkeypatch):
    """The meta device stands for a GPU: it refuses tensors from elsewhere, and nothing can be copied back from it."""
    monkeypatch.setattr(distil, "process_device", lambda: torch.device("meta"))
    recipe = RECIPES[name].make(tables[name], tmp_path, RECIPES)
    recipe.module.to("meta")
    loss = mean_loss(recipe.loss(29, torch.Generator().manual_seed(1)))
    assert loss.device.type == "meta"
    loss.backward()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("diffusion_forcing", ["text", "vae"]),
        ("multi_resolution", ["text", "vae"]),
        ("lora", ["init", "text", "vae"]),
        ("guidance_distillation", ["init", "text", "vae"]),
    ],
)
def test_recipes_name_the_files_of_their_frozen_weights(name, parts, tables, tmp_path):
    found = RECIPES[name].make(tables[name], tmp_path, RECIPES).frozen()
    assert sorted(found) == parts and all(file.is_file() for files in found.values() for file in files)


# ---------------------------------------------------------------- text
def test_a_trained_text_encoder_is_read_by_the_engine(tiny_parts):
    text = WordText.load(tiny_parts.text / "text_encoder", tiny_parts.text / "tokenizer")
    assert text.encode(["a red ball"]).shape == (1, 32, 16)
    assert text.unknown("a red dragon") == ("dragon",)


# ---------------------------------------------------------------- vae
def test_a_vae_is_saved_with_its_statistics_and_can_be_trained_further(tables, tiny_parts, tmp_path):
    recipe = VAERecipe({**tables["vae"], "init": str(tiny_parts.vae)}, tmp_path)
    config = recipe.module.config
    assert isinstance(config, WanVAEConfig) and config.latents_std != (1.0,) * 4
    latents = PocketLatents(tiny_parts.latents).latents.float()
    frames = recipe.batch(torch.Generator().manual_seed(1))[0]
    assert recipe.module.encode(frames).std() < 3
    assert latents.isfinite().all()
    recipe.loss(0, torch.Generator().manual_seed(0)).backward()


def test_a_decoder_trained_alone_leaves_the_latents_as_they_are(tables, tiny_parts, tmp_path):
    old = wan_vae.load(tiny_parts.vae)
    settings = {**tables["vae"], "init": str(tiny_parts.vae), "decoder_only": True}
    train(VAERecipe(settings, tmp_path), replace(SHORT, steps=2), tmp_path, quiet)
    new, frames = wan_vae.load(tmp_path / "vae"), torch.rand(1, 3, 5, 64, 64) * 2 - 1
    assert torch.equal(old.encode(frames), new.encode(frames)) and new.config == old.config
    assert not torch.equal(*(vae.decode(old.encode(frames)) for vae in (old, new)))
    with pytest.raises(ValueError, match="set `init`, the folder of a VAE"):
        VAERecipe({**tables["vae"], "decoder_only": True}, tmp_path)


def test_the_sprite_has_extra_weight_in_the_vae_loss(tables, tmp_path):
    losses = []
    for sprite in (0.0, 50.0):
        torch.manual_seed(0)
        recipe = VAERecipe(
            {**tables["vae"], "sprite_loss_weight": sprite, "gradient_weight": 0.0, "kl_weight": 0.0}, tmp_path
        )
        frames, cover = recipe.batch(torch.Generator().manual_seed(0))
        recipe.batch = lambda rng, frames=frames, cover=cover: (frames * 0 + 2 * cover[:, None], cover)
        recipe.module.decode_whole = lambda z, frames=frames: torch.zeros_like(frames)
        losses.append(recipe.loss(0, torch.Generator().manual_seed(0)).item())
    assert losses[1] > 2 * losses[0]


# ---------------------------------------------------------------- forcing
def test_clips_are_encoded_once(tiny_parts, tmp_path):
    calls = []

    def encode(frames):
        calls.append(len(frames))
        return torch.zeros(1, 4, 11, 8, 8)

    fill_cache(tmp_path, SOURCE, 2, encode, report=quiet)
    fill_cache(tmp_path, SOURCE, 2, encode, report=quiet)
    assert len(calls) == 2
    with pytest.raises(ValueError, match="other clips"):
        fill_cache(tmp_path, Source(frames=41), 2, encode, report=quiet)


def test_latents_of_another_vae_are_refused(tiny_parts, tables, tmp_path):
    shutil.copytree(tiny_parts.latents, tmp_path / "latents")
    about = json.loads((tmp_path / "latents" / "cache.json").read_text())
    (tmp_path / "latents" / "cache.json").write_text(json.dumps({**about, "vae": "0" * 64}))
    with pytest.raises(ValueError, match="was encoded by another VAE"):
        RECIPES["diffusion_forcing"].make(
            {**tables["diffusion_forcing"], "data": str(tmp_path / "latents")}, tmp_path / "run", RECIPES
        )


def test_a_share_of_captions_names_the_motion_alone(tiny_parts):
    data, rng = PocketLatents(tiny_parts.latents, short_captions=0.3), random.Random(4)
    said = [parse(text) for n in range(1000) for _, text in data.captions(n % 8, 0, 5, rng)[:1]]
    short = sum("colour" not in facts for facts in said)
    assert abs(short - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5
    assert all(facts["motion"] == data.clips[n % 8].facts_at(0).motion for n, facts in enumerate(said))


def test_the_sprite_cover_has_the_size_of_the_latents(tiny_parts):
    data = PocketLatents(tiny_parts.latents)
    assert len(data) == 8 and data.latents.shape[1:] == (4, 11, 8, 8)
    assert data.sprite.min() >= 0 and 0.02 < data.sprite.float().mean() < 0.4


def test_a_caption_describes_the_first_new_frame(tables, tmp_path):
    """In a window with history the caption is true of the first frame that is made, even just after a switch."""
    recipe = RECIPES["diffusion_forcing"].make(
        {**tables["diffusion_forcing"], "caption_dropout": 0.0}, tmp_path, RECIPES
    )
    sample, data = recipe.draw(29, torch.Generator().manual_seed(2)), recipe.video.data
    assert sample.video.shape == (6, 4, 9, 8, 8) and sample.sigma.shape == (6, 9) and all(map(all, sample.captions))
    for number in range(40):
        batch, rng = BatchSpec(9, range(8), data.single_caption, 9), random.Random(number)
        video, _, [(first, words)] = recipe.draw.window(Pattern.HISTORY, 5, batch, rng)
        starts = [
            (n, s) for n in range(8) for s in range(3) if torch.equal(data.latents[n, :, s : s + 9].float(), video)
        ]
        facts = [data.clips[n].facts_at(first_frame(s + 5)) for n, s in starts]
        assert first == 0
        assert any(parse(words)["colour"] == fact.colour and parse(words)["motion"] == fact.motion for fact in facts)


def test_a_finished_run_is_a_model(tables, tmp_path):
    recipe = RECIPES["diffusion_forcing"].make(tables["diffusion_forcing"], tmp_path, RECIPES)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"diffusion_forcing": tables["diffusion_forcing"]})
    model = load(tmp_path / "model")
    assert model.limits.max_latent_frames == 9 and model.defaults.strategy == "sliding" and model.info.vocabulary
    assert not list(tmp_path.glob(".model*"))


def test_a_model_is_exported_without_the_parts_that_it_shares(tables, tiny_parts, tmp_path):
    run = train(
        RECIPES["flow_matching"].make(tables["flow_matching"], tmp_path / "run", RECIPES),
        replace(SHORT, steps=1),
        tmp_path / "run",
        quiet,
    )
    export(run, tiny_parts.vae, tiny_parts.text, tmp_path / "other")
    with pytest.raises(ValueError, match="other/vae is not what the network was trained with"):
        spoilt = shutil.copytree(tiny_parts.vae, tmp_path / "vae")
        file = spoilt / "diffusion_pytorch_model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
        export(run, spoilt, tiny_parts.text, tmp_path / "slim", shares="other")
    slim = export(run, tiny_parts.vae, tiny_parts.text, tmp_path / "slim", shares="other")
    assert {path.name for path in slim.iterdir() if path.is_dir()} == {"transformer", "scheduler"}
    assert len(list(generate("a red star", load(slim), seconds=0.2, steps=2))) > 0


def test_a_network_with_unknown_keys_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[vae\.network\] has no key 'base_dimm': did you mean base_dim\?"):
        VAERecipe({"network": {"base_dimm": 4}}, tmp_path)
    with pytest.raises(ConfigError, match=r"\[text_encoder\.network\] has no key 'd_modell': did you mean d_model\?"):
        TextEncoderRecipe({"network": {"d_modell": 4}}, tmp_path)


def test_a_config_with_missing_or_contradicting_keys_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="set `vae`, the folder of a VAE"):
        RECIPES["diffusion_forcing"].make(
            {"text": "", "network": tables["flow_matching"]["network"]}, tmp_path, RECIPES
        )
    with pytest.raises(ValueError, match="set `steps`"):
        RECIPES["diffusion_forcing"].make({**tables["diffusion_forcing"], "steps": 0}, tmp_path, RECIPES)
    with pytest.raises(ValueError, match="no text encoder"):
        RECIPES["diffusion_forcing"].make({**tables["diffusion_forcing"], "text": ""}, tmp_path, RECIPES)
    with pytest.raises(ValueError, match="length_schedule asks for 12"):
        recipe = RECIPES["flow_matching"].make(
            {**tables["flow_matching"], "length_schedule": [[1.0, [12]]]}, tmp_path, RECIPES
        )
        recipe.loss(0, torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- from one model to the next
def test_a_finished_block_causal_run_generates_block_by_block(tables, tmp_path):
    recipe = RECIPES["block_causal"].make(tables["block_causal"], tmp_path, RECIPES)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"block_causal": tables["block_causal"]})
    model = load(tmp_path / "model")
    assert (
        model.limits.causal
        and model.limits.block == 3
        and model.limits.max_latent_frames == 6
        and model.defaults.strategy == "blocks"
    )
    frames = list(generate("a red circle", model, seconds=37 / 24, guidance=1.0, steps=1))
    assert sum(len(part) for part in frames) == 37


def test_a_finished_image_to_video_run_continues_an_image(tables, tmp_path):
    recipe = RECIPES["image_to_video"].make(tables["image_to_video"], tmp_path, RECIPES)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"image_to_video": tables["image_to_video"]})
    model = load(tmp_path / "model")
    assert (
        model.limits.conditioning == "concat"
        and not model.limits.per_frame_sigma
        and model.defaults.strategy == "clip-conditioned"
    )
    settings = RunSettings.of(model, "a red circle", seconds=37 / 24, steps=1)
    rollout = build_rollout(
        model,
        Script.from_facts(settings.script),
        settings.make_plan(),
        inputs=RolloutInputs(start=torch.zeros(1, 3, 1, 64, 64)),
        guidance=1.0,
    )
    assert sum(event.frames.shape[1] for event in rollout.run() if isinstance(event, Frames)) == 37


def test_a_distilled_model_makes_one_call_per_step(tables, tmp_path):
    recipe = RECIPES["guidance_distillation"].make(tables["guidance_distillation"], tmp_path, RECIPES)
    train(recipe, replace(SHORT, steps=1), tmp_path, quiet, {"guidance_distillation": tables["guidance_distillation"]})
    model = load(tmp_path / "model")
    assert model.defaults.guidance_scale == 1.0
    calls, session = [], model.session

    def counted():
        inner = session()
        inner.session.net.register_forward_hook(lambda net, args, out: calls.append(len(out)))
        return inner

    model = replace(model, session=counted)
    list(generate("a red circle", model, seconds=33 / 24, steps=2))
    assert calls == [1, 1]


def test_a_written_lora_is_read_back_equal(tables, tmp_path):
    table = tables["lora"]
    recipe = RECIPES["lora"].make(table, tmp_path, RECIPES)
    train(recipe, SHORT.with_changes(steps=2, save_every=1), tmp_path, quiet, {"lora": table})
    recipe.finish(tmp_path / "now")  # the files beside the checkpoints hold the average
    assert (tmp_path / "lora.safetensors").exists() and (tmp_path / "lora").is_dir()
    sample = recipe.inner.draw(0, torch.Generator().manual_seed(0))
    trained = recipe.inner.video.velocity(sample)
    base, _ = network({}, table["settings"]["init"], quiet)
    plain = velocity(base, sample, recipe.inner.video.text.encode)
    merged = MergedLoras(base)
    for name in ("lora.safetensors", "lora"):
        merged.use([(read_lora(tmp_path / "now" / name, base, KEY_FORMAT), 1.0)])
        found = velocity(base, sample, recipe.inner.video.text.encode)
        assert (found - plain).abs().max() > 1e-4
        assert torch.allclose(found, trained, atol=1e-5)
    assert json.loads((tmp_path / "data.json").read_text())["clips"] == 8
    assert recipe.describe(0, torch.Generator().manual_seed(0)).startswith("9 latents each; ")
    kept = load_file(tmp_path / "step-000002" / "model.safetensors")
    assert all(".down." in key or ".up." in key for key in kept)


@pytest.mark.parametrize("name", [n for n in RECIPES if RECIPES[n].trains == "video network"])
def test_a_lora_trains_on_every_recipe_of_a_video_network(name, tables, tmp_path):
    recipe = RECIPES["lora"].make(
        {"recipe": name, "rank": 2, "targets": ["to_q"], "settings": tables[name]}, tmp_path, RECIPES
    )
    mean_loss(recipe.loss(0, torch.Generator().manual_seed(0))).backward()
    trained = {key for key, weight in recipe.module.named_parameters() if weight.grad is not None}
    assert trained and all(".down." in key or ".up." in key for key in trained)


@pytest.mark.parametrize("name", ["vae", "text_encoder", "error_recycling", "lora"])
def test_a_lora_is_for_video_networks(name, tables, tmp_path):
    with pytest.raises(ValueError, match=f"is '{name}'; it must be one of .*flow_matching"):
        RECIPES["lora"].make({"recipe": name, "settings": tables[name]}, tmp_path, RECIPES)
