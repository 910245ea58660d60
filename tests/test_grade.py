"""Statistics of latents equal those of the published code, and hold what they promise."""

import pytest
import torch

from longtake.grade import matched, statistics, tone_mapped
from longtake.look import Look
from longtake.plan import Grade, Guide, Source, Window, guided
from tests.models.oracles import apart, oracle, rand

LONG = "diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt"
UPSAMPLE = "diffusers.pipelines.ltx.pipeline_ltx_latent_upsample"


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_adain_is_the_published_one(share):
    x, other = 2 * rand(2, 5, 4, 3, 3) + 1, rand(2, 5, 6, 3, 3, seed=2)
    want = oracle(LONG, "adain_normalize_latents")(x, other, share)
    assert apart(want, matched(x, statistics(other), share)) < 1e-5
    filtered = oracle(UPSAMPLE, "LTXLatentUpsamplePipeline").adain_filter_latent(None, x, other, share)
    assert apart(filtered, matched(x, statistics(other), share)) < 1e-5 or share < 1  # that one mixes the latents


def test_whole_matching_gives_the_statistics():
    x, other = 2 * rand(1, 3, 4, 5, 5) + 1, rand(1, 3, 6, 5, 5, seed=2)
    assert torch.allclose(statistics(matched(x, statistics(other))), statistics(other), atol=1e-5)
    assert apart(x, matched(x, statistics(x), 0.7)) < 1e-5


@pytest.mark.parametrize("compression", [0.0, 0.6, 1.0])
def test_the_tone_map_is_the_published_one(compression):
    x = 3 * rand(1, 4, 2, 3, 3)
    want = oracle(UPSAMPLE, "LTXLatentUpsamplePipeline").tone_map_latents(None, x, compression)
    assert apart(want, tone_mapped(x, compression)) < 1e-6
    assert tone_mapped(x, compression).abs().max() <= x.abs().max()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        tone_mapped(x, 1.5)


def test_the_first_window_is_looked_at_and_later_ones_take_it_on():
    look, first, later = Look(), rand(1, 3, 4, 5, 5), 2 * rand(1, 3, 6, 5, 5, seed=2) + 1
    levels = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None]
    start = Window(range(4), levels.expand(-1, 4), grade=Grade(1.0))
    assert look.graded(first, start, "a") is first
    blend = torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0])
    window = guided(
        Window(range(3, 8), levels.expand(-1, 5), grade=Grade(1.0), blend=blend), [Guide(Source("first"), -1.0)]
    )
    graded = look.graded(later, window, "b")
    assert torch.equal(graded[:, :, [0, 5]], later[:, :, [0, 5]])  # not used, and a guide
    assert torch.allclose(statistics(graded[:, :, 1:5]), statistics(first), atol=1e-5)
    again = Look.restored(*look.state())
    assert torch.equal(again.graded(later, window, "b"), graded)


def test_a_look_per_scene():
    look = Look()
    window = Window(range(4), torch.tensor([[1.0] * 4, [0.0] * 4], dtype=torch.float64), grade=Grade(0.5, "scene"))
    clips = [rand(1, 3, 4, 5, 5, seed=i) for i in range(4)]
    kept = [look.graded(x, window, name) is x for x, name in zip(clips, "aabb")]
    assert kept == [True, False, True, False]
    assert torch.equal(look.statistics, statistics(clips[2]))
