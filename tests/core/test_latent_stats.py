"""Statistics of latents equal those of the published code, and hold what they promise."""

import pytest
import torch

from longtake.core.latent_stats import matched, statistics, tone_mapped
from longtake.engine.clips.shot import AdainReference
from longtake.planning.keyframe_columns import KeyframeColumn, with_keyframes
from longtake.planning.window import Adain, LatentSource, Window
from tests.oracles import apart, oracle, rand

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
    reference, first, later = AdainReference(), rand(1, 3, 4, 5, 5), 2 * rand(1, 3, 6, 5, 5, seed=2) + 1
    sigmas = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None]
    start = Window(range(4), sigmas.expand(-1, 4), adain=Adain(1.0))
    assert reference.applied(first, start, "a") is first
    blend = torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0])
    window = with_keyframes(
        Window(range(3, 8), sigmas.expand(-1, 5), adain=Adain(1.0), blend=blend),
        [KeyframeColumn(LatentSource("anchor"), -1.0)],
    )
    graded = reference.applied(later, window, "b")
    assert torch.equal(graded[:, :, [0, 5]], later[:, :, [0, 5]])  # not used, and a guide
    assert torch.allclose(statistics(graded[:, :, 1:5]), statistics(first), atol=1e-5)
    again = AdainReference()
    again.load(*reference.state())
    assert torch.equal(again.applied(later, window, "b"), graded)


def test_a_look_per_scene():
    reference = AdainReference()
    window = Window(range(4), torch.tensor([[1.0] * 4, [0.0] * 4], dtype=torch.float64), adain=Adain(0.5, "scene"))
    clips = [rand(1, 3, 4, 5, 5, seed=i) for i in range(4)]
    kept = [reference.applied(x, window, name) is x for x, name in zip(clips, "aabb")]
    assert kept == [True, False, True, False]
    assert torch.equal(reference.statistics, statistics(clips[2]))
