"""What is told beside x in training is what the engine tells: same mask, same latents, grey frames included."""

from pathlib import Path

import pytest
import torch

from longtake.models import builtin, wan_codec
from longtake.models.base import Past
from longtake.models.svi import ClipTeller
from longtake.models.wan_image import Teller
from longtake.plan import Window
from longtake.train.config import ConfigError, read_table
from longtake.train.data import Source
from longtake.train.recipes.recycle import GIVEN, maker
from longtake.train.told import Givens, Tolds, fill_told, load_told, told_latents
from longtake.world import render

SOURCE = Source(frames=97, switch=0.0, seed=5)
GIVENS = Givens(counts=(1, 5), weights=(0.5, 0.5))
LATENTS = 25


@pytest.fixture(scope="module")
def codec():
    return wan_codec.load(builtin()["pocket"] / "vae", torch.float32)


def frames_of(number, count):
    return render(SOURCE.clip(number), 0, count).frames.transpose(0, 1)[None] * 2 - 1


def test_it_equals_what_the_engine_tells(codec, tmp_path):
    fill_told(tmp_path, SOURCE, 6, GIVENS, codec.encode, report=lambda line: None)
    tolds = Tolds(GIVENS, load_told(tmp_path))
    numbers = [0, 5]
    assert {GIVENS.of(n) for n in numbers} == {1, 5}
    beside = tolds.beside(numbers, LATENTS)
    assert beside.shape == (2, 20, LATENTS, 8, 8)
    window = Window(range(LATENTS), torch.linspace(1, 0, 3)[:, None].expand(3, LATENTS), role=["beside"] * LATENTS)
    for n, mine in zip(numbers, beside):
        theirs = Teller(codec)(window, Past({}, frames_of(n, GIVENS.of(n)))).beside_BCFhw[0]
        assert torch.equal(mine[:4], theirs[:4])
        error = (mine[4:] - theirs[4:]).abs()
        assert error.max() < 5e-3  # what float16 leaves of numbers below 16, and what the tail leaves


@pytest.mark.parametrize("pad", ["grey", "image"])
def test_it_equals_what_a_clip_of_stable_video_infinity_is_told(codec, tmp_path, pad):
    givens = Givens(counts=(1, 5), weights=(0.5, 0.5), mask="first", pad=pad)
    fill_told(tmp_path, SOURCE, 6, givens, codec.encode, report=lambda line: None)
    beside = Tolds(givens, load_told(tmp_path)).beside([0, 5], LATENTS)
    window = Window(range(LATENTS), torch.linspace(1, 0, 3)[:, None].expand(3, LATENTS), role=["beside"] * LATENTS)
    for n, mine in zip([0, 5], beside):
        behind = givens.shown(n, SOURCE.frames) or 0
        image = frames_of(n, behind + 1)[:, :, -1:]
        past = Past({}, frames_of(n, givens.of(n)), image=image)
        theirs = ClipTeller(codec, None, pad)(window, past).beside_BCFhw[0]
        assert torch.equal(mine[:4], theirs[:4])
        assert (mine[4:] - theirs[4:]).abs().max() < 2e-2


def test_a_preset_of_stable_video_infinity_says_what_its_clips_are_told():
    """Unless their table does; the mask alone changes no latents, so that they may be told by those of before."""
    assert read_table(Givens, GIVEN["svi-shot"], "given") == Givens(mask="first", pad="image")
    assert Givens(mask="first").facts() == Givens().facts() != Givens(pad="image").facts()
    seen = []
    make = maker({"i2v": lambda table, out: seen.append(table["given"]) or RuntimeError()})
    for preset, given, wanted in (("svi-film", {}, "first"), ("svi-film", {"mask": "all"}, "all"), ("none", {}, None)):
        with pytest.raises(ConfigError, match="makes no video"):
            make({"preset": preset, "settings": {"given": given}}, Path())
        assert seen[-1].get("mask") == wanted


def test_grey_frames_behind_the_tail_are_all_alike(codec):
    found = [told_latents(SOURCE.clip(n), 1, codec.encode)[:, -1] for n in (0, 1)]
    assert (found[0] - found[1]).abs().max() < 1e-3


def test_a_folder_of_other_clips_is_refused(tmp_path):
    def encode(frames):
        return torch.zeros(1, 4, 1 + (frames.shape[2] - 1) // 4, 8, 8)

    fill_told(tmp_path, SOURCE, 1, GIVENS, encode, report=lambda line: None)
    with pytest.raises(ValueError, match="other clips"):
        fill_told(tmp_path, Source(frames=97), 1, GIVENS, encode, report=lambda line: None)


def test_counts_that_fill_no_latents_are_refused():
    with pytest.raises(ValueError, match="3 given frames do not fill"):
        Givens((1, 3), (1, 1))
    with pytest.raises(ValueError, match="2 counts"):
        Givens((1, 5), (1,))
    shares = torch.bincount(torch.tensor([Givens().of(n) for n in range(2000)]))[[1, 5, 17]] / 2000
    assert torch.allclose(shares, torch.tensor([0.7, 0.15, 0.15]), atol=0.03)
