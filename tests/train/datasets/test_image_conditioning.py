"""Image conditions in training equal those of the engine: same mask, same latents, grey frames included."""

from types import SimpleNamespace

import pytest
import torch

from longtake.core.errors import ConfigError
from longtake.models import builtin
from longtake.models.interfaces import ContextFrames
from longtake.models.wan import vae as wan_vae
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.models.wan.svi import SviImageConditioner
from longtake.planning.window import Window
from longtake.pocket import render
from longtake.pocket.clips import Source
from longtake.train.datasets.image_conditioning import (
    ImageConditioning,
    PrefixLengths,
    encode_prefix,
    fill_prefixes,
    load_prefixes,
)
from longtake.train.objectives.error_recycling_config import PREFIX_PRESETS
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.recipes.error_recycling import make
from longtake.train.recipes.registry import RECIPES
from longtake.train.toml_config import read_table

SOURCE = Source(frames=97, switch=0.0, seed=5)
GIVENS = PrefixLengths(counts=(1, 5), weights=(0.5, 0.5))
LATENTS = 25


@pytest.fixture(scope="module")
def vae():
    return wan_vae.load(builtin()["pocket"] / "vae", torch.float32)


def frames_of(number, count):
    return render(SOURCE.clip(number), 0, count).frames.transpose(0, 1)[None] * 2 - 1


def test_it_equals_the_condition_of_the_engine(vae, tmp_path):
    fill_prefixes(tmp_path, SOURCE, 6, GIVENS, vae.encode, report=lambda line: None)
    conditions = ImageConditioning(GIVENS, load_prefixes(tmp_path))
    numbers = [0, 5]
    assert {GIVENS.count(n) for n in numbers} == {1, 5}
    beside = conditions.concat(numbers, LATENTS)
    assert beside.shape == (2, 20, LATENTS, 8, 8)
    window = Window(range(LATENTS), torch.linspace(1, 0, 3)[:, None].expand(3, LATENTS), role=["concat"] * LATENTS)
    for n, mine in zip(numbers, beside):
        theirs = ImageConditioner(vae)(window, ContextFrames({}, frames_of(n, GIVENS.count(n)))).concat_BCFhw[0]
        assert torch.equal(mine[:4], theirs[:4])
        error = (mine[4:] - theirs[4:]).abs()
        assert error.max() < 5e-3  # what float16 leaves of numbers below 16, and what the tail leaves


@pytest.mark.parametrize("pad", ["grey", "image"])
def test_it_equals_the_condition_of_stable_video_infinity(vae, tmp_path, pad):
    givens = PrefixLengths(counts=(1, 5), weights=(0.5, 0.5), mask="first", pad=pad)
    fill_prefixes(tmp_path, SOURCE, 6, givens, vae.encode, report=lambda line: None)
    beside = ImageConditioning(givens, load_prefixes(tmp_path)).concat([0, 5], LATENTS)
    window = Window(range(LATENTS), torch.linspace(1, 0, 3)[:, None].expand(3, LATENTS), role=["concat"] * LATENTS)
    for n, mine in zip([0, 5], beside):
        behind = givens.pad_frame(n, SOURCE.frames) or 0
        image = frames_of(n, behind + 1)[:, :, -1:]
        past = ContextFrames({}, frames_of(n, givens.count(n)), image=image)
        theirs = SviImageConditioner(vae, None, pad)(window, past).concat_BCFhw[0]
        assert torch.equal(mine[:4], theirs[:4])
        assert (mine[4:] - theirs[4:]).abs().max() < 2e-2


def test_a_preset_of_error_recycling_sets_the_image_condition(tmp_path):
    """Unless the table of the inner recipe does; the mask alone changes no latents, so that encoded ones stay valid."""
    assert read_table(PrefixLengths, PREFIX_PRESETS["svi-shot"], "prefix") == PrefixLengths(mask="first", pad="image")
    assert PrefixLengths(mask="first").facts() == PrefixLengths().facts() != PrefixLengths(pad="image").facts()
    tables = []

    class Inner(RecipeEntry):
        def make(self, config, out, recipes):
            tables.append(config["prefix"])
            return SimpleNamespace()

    entry = RECIPES["image_to_video"]
    recipes = {"image_to_video": Inner(entry.module, entry.title, entry.about, samples=True)}
    for preset, prefix, wanted in (("svi-film", {}, "first"), ("svi-film", {"mask": "all"}, "all"), ("none", {}, None)):
        with pytest.raises(ConfigError, match="draws no videos: use one of image_to_video"):
            make({"preset": preset, "settings": {"prefix": prefix}}, tmp_path, recipes)
        assert tables[-1].get("mask") == wanted


def test_grey_frames_after_the_tail_are_all_alike(vae):
    found = [encode_prefix(SOURCE.clip(n), 1, vae.encode)[:, -1] for n in (0, 1)]
    assert (found[0] - found[1]).abs().max() < 1e-3


def test_a_folder_of_other_clips_is_refused(tmp_path):
    def encode(frames):
        return torch.zeros(1, 4, 1 + (frames.shape[2] - 1) // 4, 8, 8)

    fill_prefixes(tmp_path, SOURCE, 1, GIVENS, encode, report=lambda line: None)
    with pytest.raises(ValueError, match="other clips"):
        fill_prefixes(tmp_path, Source(frames=97), 1, GIVENS, encode, report=lambda line: None)


def test_counts_that_fill_no_latents_are_refused():
    with pytest.raises(ValueError, match="3 given frames do not fill"):
        PrefixLengths((1, 3), (1, 1))
    with pytest.raises(ValueError, match="2 counts"):
        PrefixLengths((1, 5), (1,))
    shares = torch.bincount(torch.tensor([PrefixLengths().count(n) for n in range(2000)]))[[1, 5, 17]] / 2000
    assert torch.allclose(shares, torch.tensor([0.7, 0.15, 0.15]), atol=0.03)
