"""The Wan transformer equals the reference on equal weights, and keeps its own laws."""

import pytest
import torch

from longtake.models.layers import TanhGelu
from longtake.models.wan import WanConfig, WanTransformer, initialise, tiny
from longtake.models.wan_block import Attention
from tests.models.oracles import apart, oracle, rand, shuffled, twin

CASES = {
    "plain": {},
    "no cross norm": dict(cross_attn_norm=False),
    "image": dict(image_dim=14, added_kv_proj_dim=24, in_channels=9),
    "heads of 16": dict(attention_head_dim=16, patch_size=(1, 1, 2)),
}


def made(dtype=torch.float32, **changes) -> WanTransformer:
    return shuffled(WanTransformer(tiny(**changes)).to(dtype))


def inputs(config: WanConfig, batch: int = 2, frames: int = 5, dtype=torch.float32):
    """x, level (B, F), text; the text is as long as the reference insists on where it sees images."""
    x = rand(batch, config.in_channels, frames, 4, 6, dtype=dtype)
    level = torch.rand(batch, frames, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return x, level, rand(batch, 512 if config.image_dim else 7, config.text_dim, seed=3, dtype=dtype)


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mixed", [False, True])
def test_equals_skyreels(case, mixed):
    net = made(**CASES[case])
    x, level, text = inputs(net.config)
    image = rand(2, 6, 14, seed=4) if net.config.image_dim else None
    level = level if mixed else level[:, :1]
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net)
    time = 1000 * (level if mixed else level[:, 0])
    want = reference(x, time, text, image, enable_diffusion_forcing=mixed, return_dict=False)[0]
    assert apart(want, net(x, level, net.text_memory(text, image))) < 1e-5
    if image is None:
        assert apart(want, net(x, level, text)) < 1e-5


@pytest.mark.parametrize("fps", [16, 24])
def test_equals_skyreels_with_the_frame_rate(fps):
    net = made(inject_sample_info=True)
    x, level, text = inputs(net.config, batch=1)  # the reference adds the rates of a batch to the wrong rows
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net)
    want = reference(x, 1000 * level, text, enable_diffusion_forcing=True, fps=[int(fps != 16)], return_dict=False)[0]
    assert apart(want, net(x, level, text, fps=fps)) < 1e-5
    assert apart(want, net(x, level, text, fps=40 - fps)) > 1e-3


def test_rates_of_a_batch_are_told_apart():
    net = made(inject_sample_info=True)
    x, level, text = inputs(net.config)
    both = net(x, level, text, fps=torch.tensor([16.0, 24.0]))
    alone = [net(x[i : i + 1], level[i : i + 1], text[i : i + 1], fps=fps) for i, fps in enumerate((16, 24))]
    assert apart(torch.cat(alone), both) < 1e-6


@pytest.mark.parametrize("mixed", [False, True])
def test_equals_wan(mixed):
    net = made()
    x, level, text = inputs(net.config)
    reference = twin(oracle("diffusers", "WanTransformer3DModel"), net)
    time = 1000 * (level.repeat_interleave(6, 1) if mixed else level[:, 0])  # that model takes a time per token
    want = reference(x, time, text, return_dict=False)[0]
    assert apart(want, net(x, level if mixed else level[:, :1], text)) < 1e-5


def test_block_causal_equals_the_mask():
    net = made()
    x, level, text = inputs(net.config, frames=6)
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net, num_frame_per_block=2)
    want = reference(x, 1000 * level, text, enable_diffusion_forcing=True, return_dict=False)[0]
    assert apart(want, net(x, level, text, blocks=[0, 0, 1, 1, 2, 2])) < 1e-5
    assert apart(want, net(x, level, text)) > 1e-2


@pytest.mark.parametrize(
    "config, parameters, keys",
    [
        (dict(num_attention_heads=12, ffn_dim=8960, num_layers=30, inject_sample_info=True), 1_435_525_696, 830),
        (dict(num_attention_heads=40, ffn_dim=13824, num_layers=40), 14_288_491_584, 1095),
        (
            dict(
                num_attention_heads=40, ffn_dim=13824, num_layers=40, in_channels=36, image_dim=1280,
                added_kv_proj_dim=5120,
            ),
            16_394_878_784,
            1303,
        ),
        (dict(), 2_191_878_208, None),
    ],
)  # fmt: skip
def test_released_sizes(config, parameters, keys):
    with torch.device("meta"):
        net = WanTransformer(WanConfig(**config))
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert keys is None or len(net.state_dict()) == keys


def test_half_precision_is_no_further_from_the_truth_than_the_reference():
    """bfloat16 of both against float32 with the same, rounded, weights; the reference keeps norms and time in float32,
    as it loads them. Summed over draws."""
    kept = oracle("diffusers", "SkyReelsV2Transformer3DModel")._keep_in_fp32_modules
    off = torch.zeros(2)
    for seed in range(4):
        net = shuffled(WanTransformer(tiny(num_layers=4, attention_head_dim=24)), seed).bfloat16()
        exact = shuffled(WanTransformer(net.config)).float()
        exact.load_state_dict(net.state_dict())
        reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), exact).bfloat16()
        for name, weight in reference.named_parameters():
            if set(kept) & set(name.split(".")):
                weight.data = weight.data.float()
        x, level, text = (t.bfloat16() for t in inputs(net.config))
        level = (1000 * level.float()).floor() / 1000
        want = exact(x.float(), level, text.float())
        theirs = reference(x, 1000 * level, text, enable_diffusion_forcing=True, return_dict=False)[0]
        off += torch.tensor([apart(want, net(x, level, text).float()), apart(want, theirs.float())])
    assert 0 < off[0] <= off[1]


# ---------------------------------------------------------------- its own laws
def test_one_level_is_every_frames_level():
    net = made(torch.float64)
    x, _, text = inputs(net.config, dtype=torch.float64)
    level = torch.tensor(0.37, dtype=torch.float64)
    want = net(x, level, text)
    for shape in ((5,), (2, 5), (2, 1), (1, 5)):
        assert apart(want, net(x, level.expand(shape), text)) < 1e-12


def test_levels_belong_to_frames():
    net = made()
    x, level, text = inputs(net.config)
    other = level.clone()
    other[:, 3] += 0.1
    before, after = (net(x, which, text, blocks=range(5)) for which in (level, other))
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert apart(before[:, :, 3], after[:, :, 3]) > 1e-3


def test_texts_of_frames_are_told_apart():
    attention = shuffled(Attention(24, 2, 1e-6)).double()
    x = rand(2, 5, 3, 24, dtype=torch.float64)
    texts = [attention.read(rand(2, 4 + i, 24, seed=i, dtype=torch.float64)) for i in range(3)]
    grouped = attention.cross(x, texts, [(2, 0, 2), (0, 2, 3), (1, 3, 5)])
    alone = [attention.cross(x[:, i : i + 1], texts, [(scene, 0, 1)]) for i, scene in enumerate((2, 2, 0, 1, 1))]
    assert apart(torch.cat(alone, 1), grouped) < 1e-12


def test_grouped_prompts_equal_separate_ones():
    net = made(torch.float64)
    x, level, text = inputs(net.config, frames=4, dtype=torch.float64)
    first, second = net.text_memory(text), net.text_memory(text.flip(1, 2))
    both = net(x, level, [first, second], scene=[0, 0, 1, 1], blocks=[0, 0, 1, 1])
    assert apart(net(x, level, first, blocks=[0, 0, 1, 1])[:, :, :2], both[:, :, :2]) < 1e-12
    assert apart(net(x, level, second, blocks=[0, 0, 1, 1])[:, :, 2:], both[:, :, 2:]) > 1e-3  # it sees the first block
    assert apart(net(x, level, first), net(x, level, [first, second], scene=[0, 0, 0, 0])) < 1e-12
    assert apart(net(x, level, second), net(x, level, [first, second], scene=[1, 1, 1, 1])) < 1e-12
    mixed = net(x, level, [first, second], scene=[0, 1, 0, 1])
    assert apart(mixed, net(x, level, [second, first], scene=[1, 0, 1, 0])) < 1e-12
    assert apart(mixed, both) > 1e-3


def test_a_text_of_one_serves_any_batch():
    net = made()
    x, level, text = inputs(net.config)
    assert apart(net(x, level, text[:1].expand(2, -1, -1)), net(x, level, net.text_memory(text[:1]))) < 1e-6


def test_positions_have_no_end_and_only_distance_counts():
    net = made(torch.float64)
    x, level, text = inputs(net.config, dtype=torch.float64)
    want = net(x, level, text, range(5))
    assert apart(want, net(x, level, text, [i + 123456.5 for i in range(5)])) < 1e-8
    assert apart(want, net(x, level, text, torch.arange(5.0))) == 0
    assert apart(want, net(x, level, text, [0, 1, 2, 3, 9])) > 1e-4


def test_tables_of_positions_are_few():
    net = made()
    x, level, text = inputs(net.config)
    for start in range(20):
        net(x, level, text, range(start, start + 5))
    assert len(net._ropes) <= 8


def test_inference_leaves_nothing_that_training_cannot_use():
    net = made()
    x, level, text = inputs(net.config)
    with torch.inference_mode():
        net(x, level, text)
    net.requires_grad_(True)
    net(x, level, text).sum().backward()
    assert net.blocks[0].attn1.to_q.weight.grad.norm() > 0


def test_checkpointing_changes_no_gradient():
    net = made().requires_grad_(True)
    x, level, text = inputs(net.config)
    grads = []
    for net.checkpointing in (False, True):
        net.zero_grad()
        net(x, level, text, blocks=[0, 0, 1, 1, 2]).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert apart(*grads) < 1e-6


def test_gelu_is_the_same_with_and_without_gradients():
    x = 6 * rand(1000, dtype=torch.float64)
    with torch.no_grad():
        fast = TanhGelu()(x)
    assert apart(TanhGelu()(x), fast) < 1e-14


def test_half_precision_weights():
    net = made()
    x, level, text = inputs(net.config)
    want = net(x, level, text)
    got = net.to(torch.bfloat16)(x, level, text)
    assert got.dtype == torch.bfloat16
    assert apart(want, got.float()) < 0.05


def test_a_new_network_predicts_nothing():
    net = WanTransformer(tiny())
    initialise(net)
    x, level, text = inputs(net.config)
    assert not net(x, level, text).any()


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(qk_norm="rms_norm"), "qk_norm"),
        (dict(patch_size=(2, 2, 2)), "time patch of 1"),
        (dict(image_dim=14), "belong together"),
        (dict(attention_head_dim=7), "even"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)


def test_latents_that_do_not_divide_are_refused():
    net = made()
    with pytest.raises(ValueError, match="5x4 do not divide into patches of 2x2"):
        net(rand(1, 4, 1, 5, 4), torch.tensor(0.5), rand(1, 7, 10))
