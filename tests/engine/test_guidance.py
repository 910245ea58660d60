"""Guidance equals its formulas, written out; branches share what they can."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from longtake.core.guidance_settings import STG_MODES, Guidance
from longtake.core.sigmas import quadratic
from longtake.engine.guidance import Guided, guidance_of
from longtake.models.interfaces import Conditioning, ContextFrames, PromptEmbedding
from longtake.models.ltx.config import tiny
from longtake.models.ltx.presets import DEV_2B, DEV_13B
from longtake.models.ltx.session import LTXSession
from longtake.models.ltx.transformer import LTXTransformer
from longtake.models.model import NetworkFeatures, SamplingDefaults
from longtake.models.toy.gaussian import gauss
from longtake.planning.window import Window
from tests.oracles import apart, rand, shuffled

KEPT = 1  # frames held clean
SIZE = (4, 4, 2, 3)  # C F H W


@pytest.fixture(scope="module")
def net() -> LTXTransformer:
    return shuffled(LTXTransformer(tiny(num_layers=4)).double())


def text(name: str, rows: int = 1) -> PromptEmbedding:
    return PromptEmbedding(name, rand(1, 6, 10, seed=sum(name.encode()), dtype=torch.float64).expand(rows, -1, -1))


def session(net, guidance: Guidance, batched: bool, rows: int = 1) -> tuple[Guided, Window]:
    sigmas = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)[:, None].expand(-1, SIZE[1]).clone()
    sigmas[:, :KEPT] = 0
    window = Window(range(SIZE[1]), sigmas)
    made = Guided(lambda: LTXSession(net), guidance, text("negative", rows), batched)
    made.begin(window, ContextFrames({}), Conditioning((text("prompt", rows),), (0,) * SIZE[1]))
    return made, window


def replaced(attention, mode):
    """The attention whose result before its output projection is its values, or its input."""
    kept = attention.to_v if mode == "attention_values" else lambda x: x
    return lambda x, *a, **k: attention.to_out[0](kept(x))


def perturbed(net, x, sigma, words, blocks, mode="attention_values"):
    """The network with these blocks perturbed as in the official code, one after another."""
    undo = []
    for index in blocks:
        block = net.transformer_blocks[index]
        if mode == "transformer_block":
            block.forward = lambda x, *a, **k: x
            undo.append((block, "forward"))
        elif mode != "residual":  # which changes nothing, as the attention has no residual connection inside
            block.attn1.among = replaced(block.attn1, mode)
            undo.append((block.attn1, "among"))
    try:
        return net(x, sigma, words.embedding)
    finally:
        for owner, name in undo:
            delattr(owner, name)


def written_out(net, x, sigma, scale, stg, rescale, blocks, star, mode="attention_values"):
    """As in the official pipeline, over the whole sample."""
    v = prompt = net(x, sigma, text("prompt").embedding)
    if scale > 1:
        negative = net(x, sigma, text("negative").embedding)
        if star:
            p, n = prompt.flatten(1), negative.flatten(1)
            negative = negative * ((p * n).sum(1) / ((n * n).sum(1) + 1e-8)).view(-1, 1, 1, 1, 1)
        v = negative + scale * (prompt - negative)
    if stg > 0:
        v = v + stg * (prompt - perturbed(net, x, sigma, text("prompt"), blocks, mode))
    ratio = prompt.flatten(1).std(1) / v.flatten(1).std(1)
    return v * (rescale * ratio + 1 - rescale).view(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("scale", "stg", "rescale", "blocks", "star"),
    [
        (1.0, 0.0, 0.0, (), False),
        (3.0, 0.0, 0.0, (), False),
        (3.0, 0.0, 0.0, (), True),
        (1.0, 1.5, 0.0, (2,), False),
        (3.0, 1.0, 0.7, (0,), False),
        (6.0, 4.0, 0.5, (1, 3), True),
        (3.0, 0.0, 0.7, (), False),
    ],
)
def test_equals_the_formulas(net, batched, scale, stg, rescale, blocks, star):
    guidance = Guidance((scale,), (stg,), (rescale,), (blocks,), cfg_zero_star=star, full_sample_stats=True)
    made, window = session(net, guidance, batched, rows=2)
    x = rand(2, *SIZE, dtype=torch.float64)
    want = written_out(net, x, window.sigmas[0], scale, stg, rescale, blocks, star)
    assert apart(want, made(x, window.sigmas[0])) < 1e-12
    if scale > 1 or stg:
        assert apart(want, net(x, window.sigmas[0], text("prompt").embedding)) > 1e-3


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("blocks", [(0,), (1, 3)])
@pytest.mark.parametrize("mode", STG_MODES)
def test_every_mode_of_stg_equals_its_formula(net, batched, blocks, mode):
    guidance = Guidance((3.0,), (1.0,), (0.7,), (blocks,), full_sample_stats=True, stg_mode=mode)
    made, window = session(net, guidance, batched, rows=2)
    x = rand(2, *SIZE, dtype=torch.float64)
    got = made(x, window.sigmas[0])
    assert apart(written_out(net, x, window.sigmas[0], 3.0, 1.0, 0.7, blocks, False, mode), got) < 1e-12
    for other in STG_MODES:
        if other != mode:
            assert apart(written_out(net, x, window.sigmas[0], 3.0, 1.0, 0.7, blocks, False, other), got) > 1e-4


def test_context_frames_count_for_the_rescale_only_as_published(net):
    x, results = rand(1, *SIZE, dtype=torch.float64), []
    for whole in (False, True):
        made, window = session(
            net, Guidance((3.0,), guidance_rescale=(0.7,), cfg_zero_star=True, full_sample_stats=whole), True
        )
        results.append(made(x, window.sigmas[0]))
    assert apart(*results) > 1e-4
    p, n = (net(x, window.sigmas[0], text(name).embedding) for name in ("prompt", "negative"))
    moved = [v[:, :, KEPT:].flatten(1) for v in (p, n)]
    n = n * ((moved[0] * moved[1]).sum() / moved[1].square().sum())
    mixed = n + 3 * (p - n)
    ratio = moved[0].std() / mixed[:, :, KEPT:].std()
    assert apart(mixed * (0.7 * ratio + 0.3), results[0]) < 1e-7


def test_the_perturbed_branch_shares_what_comes_before_its_first_block(net, monkeypatch):
    rows = []
    for index, block in enumerate(net.transformer_blocks):
        run = block.forward
        monkeypatch.setattr(block, "forward", lambda x, *a, i=index, run=run: rows.append((i, len(x))) or run(x, *a))
    made, window = session(net, Guidance((3.0,), (1.0,), blocks=((2,),)), True)
    made(rand(1, *SIZE, dtype=torch.float64), window.sigmas[0])
    assert rows == [(0, 2), (1, 2), (2, 3), (3, 3)]


def test_a_branch_without_weight_is_not_run(net, monkeypatch):
    rows = []
    run = LTXTransformer.forward
    monkeypatch.setattr(
        LTXTransformer, "forward", lambda self, x, *a, **k: rows.append(len(x)) or run(self, x, *a, **k)
    )
    guidance = Guidance((1.0, 4.0, 1.0), (0.0, 0.0, 1.0), blocks=((), (), (1,)), down_to=(0.8, 0.4, 0.1))
    made, _ = session(net, guidance, True)
    for sigma in (0.9, 0.5, 0.2):
        made(rand(1, *SIZE, dtype=torch.float64), torch.full((SIZE[1],), sigma, dtype=torch.float64))
    assert rows == [1, 2, 1]


def test_every_interval_of_the_published_lists():
    """The official mapping, written out: the first breakpoint not above the step, else the last."""
    steps = quadratic(30)[:27]
    points = [1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618]
    for step in steps.float().tolist():
        below = [i for i, point in enumerate(points) if point <= step]
        assert DEV_13B.interval(step) == (below[0] if below else 6)
    found = [DEV_13B.at(DEV_13B.interval(step)) for step in steps.tolist()]
    assert [scale for scale, *_ in found][:12] == [1, 1, 1, 6, 6, 8, 8, 8, 8, 8, 6, 6]
    assert found[3] == (6.0, 4.0, 0.5, (22, 35, 39)) and found[1] == (1.0, 0.0, 0.0, (11, 25, 35, 39))
    assert DEV_2B.at(DEV_2B.interval(0.3)) == (3.0, 1.0, 0.7, (19,))


def test_what_is_asked_for_and_what_suits():
    model = gauss()
    assert guidance_of(model, None) == Guidance((1.0,)) and guidance_of(model, 3.0) == Guidance((3.0,))
    model = replace(model, defaults=SamplingDefaults(guidance=DEV_13B), features=NetworkFeatures(guidance_blocks=48))
    assert guidance_of(model, 8.0) is DEV_13B
    assert guidance_of(model, 1.0) == Guidance()
    assert guidance_of(model, 2.0).scale == (2.0,) * 7 and guidance_of(model, 2.0).stg_scale == DEV_13B.stg_scale
    assert guidance_of(model, 2.0, "attention_skip").stg_mode == "attention_skip"
    model = replace(model, features=NetworkFeatures(guidance_blocks=28))
    with pytest.raises(ValueError, match="has 28 blocks that guidance can skip, not 39"):
        guidance_of(model, None)


def test_lists_that_do_not_fit_are_refused():
    for options, words in (
        (dict(scale=(1.0, 2.0)), "2 values of scale for 0 sigmas"),
        (dict(down_to=(0.1, 0.9)), "must fall"),
        (dict(stg_scale=(1.0,)), "needs the blocks"),
        (dict(stg_mode="stg"), "one of attention_values, "),
    ):
        with pytest.raises(ValueError, match=words):
            Guidance(**options)
    assert all(b < a for a, b in pairwise(DEV_13B.down_to)) and Guidance().plain and not DEV_13B.plain
