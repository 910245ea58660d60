"""The Wan transformer equals the reference on equal weights, and keeps its own laws."""

import pytest
import torch

from longtake.models.wan.block import Attention
from longtake.models.wan.config import WanConfig, tiny
from longtake.models.wan.transformer import WanTransformer
from tests.oracles import apart, oracle, rand, shuffled, twin

CASES = {
    "plain": {},
    "no cross norm": dict(cross_attn_norm=False),
    "image": dict(image_dim=14, added_kv_proj_dim=24, in_channels=9),
    "heads of 16": dict(attention_head_dim=16, patch_size=(1, 1, 2)),
}


def made(dtype=torch.float32, **changes) -> WanTransformer:
    return shuffled(WanTransformer(tiny(**changes)).to(dtype))


def inputs(config: WanConfig, batch: int = 2, frames: int = 5, dtype=torch.float32):
    """x, sigma (B, F), text; the text is as long as the reference insists on where it sees images."""
    x = rand(batch, config.in_channels, frames, 4, 6, dtype=dtype)
    sigma = torch.rand(batch, frames, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return x, sigma, rand(batch, 512 if config.image_dim else 7, config.text_dim, seed=3, dtype=dtype)


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mixed", [False, True])
def test_equals_skyreels(case, mixed):
    net = made(**CASES[case])
    x, sigma, text = inputs(net.config)
    image = rand(2, 6, 14, seed=4) if net.config.image_dim else None
    sigma = sigma if mixed else sigma[:, :1]
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net)
    time = 1000 * (sigma if mixed else sigma[:, 0])
    want = reference(x, time, text, image, enable_diffusion_forcing=mixed, return_dict=False)[0]
    assert apart(want, net(x, sigma, net.text_kv(text, image))) < 1e-5
    if image is None:
        assert apart(want, net(x, sigma, text)) < 1e-5


@pytest.mark.parametrize("fps", [16, 24])
def test_equals_skyreels_with_the_frame_rate(fps):
    net = made(inject_sample_info=True)
    x, sigma, text = inputs(net.config, batch=1)  # the reference adds the rates of a batch to the wrong rows
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net)
    want = reference(x, 1000 * sigma, text, enable_diffusion_forcing=True, fps=[int(fps != 16)], return_dict=False)[0]
    assert apart(want, net(x, sigma, text, fps=fps)) < 1e-5
    assert apart(want, net(x, sigma, text, fps=40 - fps)) > 1e-3


def test_every_video_of_a_batch_has_its_own_frame_rate():
    net = made(inject_sample_info=True)
    x, sigma, text = inputs(net.config)
    both = net(x, sigma, text, fps=torch.tensor([16.0, 24.0]))
    alone = [net(x[i : i + 1], sigma[i : i + 1], text[i : i + 1], fps=fps) for i, fps in enumerate((16, 24))]
    assert apart(torch.cat(alone), both) < 1e-6


@pytest.mark.parametrize("mixed", [False, True])
def test_equals_wan(mixed):
    net = made()
    x, sigma, text = inputs(net.config)
    reference = twin(oracle("diffusers", "WanTransformer3DModel"), net)
    time = 1000 * (sigma.repeat_interleave(6, 1) if mixed else sigma[:, 0])  # that model takes a time per token
    want = reference(x, time, text, return_dict=False)[0]
    assert apart(want, net(x, sigma if mixed else sigma[:, :1], text)) < 1e-5


def test_block_causal_equals_the_mask():
    net = made()
    x, sigma, text = inputs(net.config, frames=6)
    reference = twin(oracle("diffusers", "SkyReelsV2Transformer3DModel"), net, num_frame_per_block=2)
    want = reference(x, 1000 * sigma, text, enable_diffusion_forcing=True, return_dict=False)[0]
    assert apart(want, net(x, sigma, text, blocks=[0, 0, 1, 1, 2, 2])) < 1e-5
    assert apart(want, net(x, sigma, text)) > 1e-2


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
        x, sigma, text = (t.bfloat16() for t in inputs(net.config))
        sigma = (1000 * sigma.float()).floor() / 1000
        want = exact(x.float(), sigma, text.float())
        theirs = reference(x, 1000 * sigma, text, enable_diffusion_forcing=True, return_dict=False)[0]
        off += torch.tensor([apart(want, net(x, sigma, text).float()), apart(want, theirs.float())])
    assert 0 < off[0] <= 1.05 * off[1]  # which of two nearly equal errors is smaller depends on the processor


# ---------------------------------------------------------------- its own laws
def test_a_scalar_sigma_equals_one_per_frame():
    net = made(torch.float64)
    x, _, text = inputs(net.config, dtype=torch.float64)
    sigma = torch.tensor(0.37, dtype=torch.float64)
    want = net(x, sigma, text)
    for shape in ((5,), (2, 5), (2, 1), (1, 5)):
        assert apart(want, net(x, sigma.expand(shape), text)) < 1e-12


def test_every_frame_has_its_own_sigma():
    net = made()
    x, sigma, text = inputs(net.config)
    other = sigma.clone()
    other[:, 3] += 0.1
    before, after = (net(x, which, text, blocks=range(5)) for which in (sigma, other))
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert apart(before[:, :, 3], after[:, :, 3]) > 1e-3


def test_every_frame_has_its_own_prompt():
    attention = shuffled(Attention(24, 2, 1e-6)).double()
    x = rand(2, 5, 3, 24, dtype=torch.float64)
    texts = [attention.read(rand(2, 4 + i, 24, seed=i, dtype=torch.float64)) for i in range(3)]
    grouped = attention.cross(x, texts, [(2, 0, 2), (0, 2, 3), (1, 3, 5)])
    alone = [attention.cross(x[:, i : i + 1], texts, [(scene, 0, 1)]) for i, scene in enumerate((2, 2, 0, 1, 1))]
    assert apart(torch.cat(alone, 1), grouped) < 1e-12


def test_grouped_prompts_equal_separate_ones():
    net = made(torch.float64)
    x, sigma, text = inputs(net.config, frames=4, dtype=torch.float64)
    first, second = net.text_kv(text), net.text_kv(text.flip(1, 2))
    both = net(x, sigma, [first, second], scene=[0, 0, 1, 1], blocks=[0, 0, 1, 1])
    assert apart(net(x, sigma, first, blocks=[0, 0, 1, 1])[:, :, :2], both[:, :, :2]) < 1e-12
    assert apart(net(x, sigma, second, blocks=[0, 0, 1, 1])[:, :, 2:], both[:, :, 2:]) > 1e-3  # it sees the first block
    assert apart(net(x, sigma, first), net(x, sigma, [first, second], scene=[0, 0, 0, 0])) < 1e-12
    assert apart(net(x, sigma, second), net(x, sigma, [first, second], scene=[1, 1, 1, 1])) < 1e-12
    mixed = net(x, sigma, [first, second], scene=[0, 1, 0, 1])
    assert apart(mixed, net(x, sigma, [second, first], scene=[1, 0, 1, 0])) < 1e-12
    assert apart(mixed, both) > 1e-3


def test_a_text_of_one_serves_any_batch():
    net = made()
    x, sigma, text = inputs(net.config)
    assert apart(net(x, sigma, text[:1].expand(2, -1, -1)), net(x, sigma, net.text_kv(text[:1]))) < 1e-6


def test_positions_have_no_end_and_only_distance_counts():
    net = made(torch.float64)
    x, sigma, text = inputs(net.config, dtype=torch.float64)
    want = net(x, sigma, text, range(5))
    assert apart(want, net(x, sigma, text, [i + 123456.5 for i in range(5)])) < 1e-8
    assert apart(want, net(x, sigma, text, torch.arange(5.0))) == 0
    assert apart(want, net(x, sigma, text, [0, 1, 2, 3, 9])) > 1e-4


def test_tables_of_positions_are_few():
    net = made()
    x, sigma, text = inputs(net.config)
    for start in range(20):
        net(x, sigma, text, range(start, start + 5))
    assert len(net.rope_tables) <= 8


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(qk_norm="rms_norm"), "qk_norm"),
        (dict(patch_size=(2, 2, 2)), "time patch of 1"),
        (dict(image_dim=14), "go together"),
        (dict(attention_head_dim=7), "even"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)


def test_latents_that_do_not_divide_are_refused():
    net = made()
    with pytest.raises(ValueError, match="4x5 are not whole patches of 2x2"):
        net(rand(1, 4, 1, 5, 4), torch.tensor(0.5), rand(1, 7, 10))
