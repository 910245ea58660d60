"""The LTX transformer equals the reference on equal weights, and keeps its own laws."""

import pytest
import torch

from longtake.core.errors import PlanError
from longtake.core.geometry import place_of_frame
from longtake.models.ltx.config import LTXConfig, tiny
from longtake.models.ltx.transformer import LTXTransformer
from tests.oracles import apart, oracle, rand, shuffled, twin

SIZE = (2, 3)


def made(dtype=torch.float32, **changes) -> LTXTransformer:
    return shuffled(LTXTransformer(tiny(**changes)).to(dtype))


def inputs(config: LTXConfig, batch: int = 2, frames: int = 5, dtype=torch.float32):
    """x, sigma (B, F), text."""
    x = rand(batch, config.in_channels, frames, *SIZE, dtype=dtype)
    sigma = torch.rand(batch, frames, generator=torch.Generator().manual_seed(2), dtype=dtype)
    return x, sigma, rand(batch, 7, config.caption_channels, seed=3, dtype=dtype)


def packed(x: torch.Tensor) -> torch.Tensor:
    """(B C F H W) -> (B, F*H*W, C)"""
    return x.flatten(2).transpose(1, 2)


def published(net: LTXTransformer, x, time, text, mask=None, **where) -> torch.Tensor:
    reference = twin(oracle("diffusers", "LTXVideoTransformer3DModel"), net)
    frames, height, width = x.shape[2:]
    shape = dict(num_frames=frames, height=height, width=width)
    out = reference(packed(x), text, time, mask, **shape, **where, return_dict=False)[0]
    return out.transpose(1, 2).unflatten(2, (frames, height, width))


def coordinates(config: LTXConfig, batch: int, frames: int, fps: float, causal: bool) -> torch.Tensor:
    """Frame, row and column of every token as the published condition pipeline gives them, time in seconds."""
    f, y, z = torch.meshgrid(torch.arange(frames), *(torch.arange(n) for n in SIZE), indexing="ij")
    at = torch.stack([f * config.temporal_compression, y * config.scale, z * config.scale]).flatten(1).float()
    if causal:
        at[0] = (at[0] + 1 - config.temporal_compression).clamp(min=0)
    at[0] = at[0] * (1 / fps)
    return at[None].repeat(batch, 1, 1)


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("shape", [dict(), dict(attention_head_dim=12, cross_attention_dim=24)])
@pytest.mark.parametrize("fps", [24.0, 25.0])
def test_equals_ltx(shape, fps):
    net = made(**shape)
    x, sigma, text = inputs(net.config)
    where = dict(rope_interpolation_scale=(8 / fps, net.config.scale, net.config.scale))
    want = published(net, x, 1000 * sigma[:, 0], text, **where)
    assert apart(want, net(x, sigma[:, :1], text, fps=fps)) < 1e-4  # one order of its float32 angles, of several
    assert apart(want, net(x, sigma[:, :1], text, fps=30.0)) > 1e-3


@pytest.mark.parametrize("causal", [False, True])
def test_equals_ltx_with_a_sigma_per_frame_and_its_coordinates(causal):
    net = made(causal_temporal_positioning=causal)
    x, sigma, text = inputs(net.config)
    time = 1000 * sigma.repeat_interleave(SIZE[0] * SIZE[1], 1)
    wants = [
        published(net, x, time, text, video_coords=coordinates(net.config, 2, 5, 24.0, fix)) for fix in (False, True)
    ]
    assert apart(wants[causal], net(x, sigma, text)) < 1e-5
    assert apart(wants[not causal], net(x, sigma, text)) > 1e-3


def test_equals_ltx_with_a_sigma_per_token():
    net = made()
    x, _, text = inputs(net.config)
    sigma = torch.rand(2, 5, *SIZE, generator=torch.Generator().manual_seed(4))
    want = published(net, x, 1000 * sigma.flatten(1), text, video_coords=coordinates(net.config, 2, 5, 24.0, False))
    assert apart(want, net(x, sigma, text)) < 1e-5


def test_padding_is_cut_off_and_masked():
    net = made()
    x, sigma, text = inputs(net.config)
    mask = torch.ones(2, 7)
    mask[0, 3:], mask[1, 5:] = 0, 0
    want = published(net, x, 1000 * sigma[:, 0], text, mask, video_coords=coordinates(net.config, 2, 5, 24.0, False))
    text = text * mask[..., None]
    memory = net.text_kv(text)
    assert memory.layers[0][0].shape[1] == 5 and memory.mask.sum().item() == 8
    assert apart(want, net(x, sigma[:, :1], memory)) < 1e-5
    alone = [net(x[i : i + 1], sigma[i : i + 1, :1], net.text_kv(text[i : i + 1])) for i in range(2)]
    assert net.text_kv(text[:1]).mask is None
    assert apart(want, torch.cat(alone)) < 1e-5


@pytest.mark.parametrize(
    "shape, parameters, keys",
    [
        (dict(), 1_923_385_472, 715),
        (dict(attention_head_dim=128, cross_attention_dim=4096, num_layers=48), 13_042_569_344, 1215),
    ],
)
def test_released_sizes(shape, parameters, keys):
    config = LTXConfig(**shape)
    with torch.device("meta"):
        net = LTXTransformer(config)
        reference = oracle("diffusers", "LTXVideoTransformer3DModel")(**shape)
    names = [{name: tuple(t.shape) for name, t in other.state_dict().items()} for other in (net, reference)]
    assert names[0] == names[1] and len(names[0]) == keys
    assert sum(p.numel() for p in net.parameters()) == parameters


# ---------------------------------------------------------------- sigmas
def test_a_scalar_sigma_equals_one_per_frame_and_per_token():
    net = made(torch.float64)
    x, _, text = inputs(net.config, dtype=torch.float64)
    sigma = torch.tensor(0.37, dtype=torch.float64)
    want = net(x, sigma, text)
    for shape in ((5,), (2, 5), (2, 1), (1, 5), (2, 5, *SIZE)):
        assert apart(want, net(x, sigma.expand(shape), text)) < 1e-12


def test_every_distinct_sigma_is_embedded_once(monkeypatch):
    net, seen = made(), []
    monkeypatch.setattr(net.time_embed, "forward", lambda t, run=net.time_embed.forward: seen.append(len(t)) or run(t))
    x, _, text = inputs(net.config)
    net(x, torch.tensor([0.0, 0.0, 0.7, 0.7, 0.7]), text)
    net(x, torch.full((2, 5, *SIZE), 0.5), text)
    assert seen == [2, 1]


def test_every_frame_has_its_own_sigma():
    net = made(torch.float64)
    x, sigma, text = inputs(net.config, dtype=torch.float64)
    for i in range(5):
        other = sigma.clone()
        other[:, i] = 0.0
        moved = (net(x, other, text) - net(x, sigma, text)).square().sum((0, 1, 3, 4))
        assert moved.argmax() == i


# ---------------------------------------------------------------- texts and positions
def test_grouped_prompts_equal_separate_ones():
    net = made(torch.float64)
    x, sigma, text = inputs(net.config, frames=4, dtype=torch.float64)
    first, second = net.text_kv(text), net.text_kv(text.flip(1, 2))
    assert apart(net(x, sigma, first), net(x, sigma, [first, second], scene=[0] * 4)) < 1e-12
    assert apart(net(x, sigma, second), net(x, sigma, [first, second], scene=[1] * 4)) < 1e-12
    mixed = net(x, sigma, [first, second], scene=[0, 1, 0, 1])
    assert apart(mixed, net(x, sigma, [second, first], scene=[1, 0, 1, 0])) < 1e-12
    assert apart(mixed, net(x, sigma, [first, second], scene=[0, 0, 1, 1])) > 1e-3


def test_every_frame_attends_to_its_own_prompt():
    attention = made(torch.float64).transformer_blocks[0].attn2
    net = made(torch.float64)
    x = rand(2, 5, 3, net.config.dim, dtype=torch.float64)
    texts = [net.text_kv(rand(2, 4 + i, 10, seed=i, dtype=torch.float64)) for i in range(3)]
    inputs = [(*text.layers[0], text.mask) for text in texts]
    grouped = attention.cross(x, inputs, [(2, 0, 2), (0, 2, 3), (1, 3, 5)])
    alone = [attention.cross(x[:, i : i + 1], inputs, [(scene, 0, 1)]) for i, scene in enumerate((2, 2, 0, 1, 1))]
    assert apart(torch.cat(alone, 1), grouped) < 1e-12


def test_a_text_of_one_serves_any_batch_and_an_empty_one_is_no_fault():
    net = made()
    x, sigma, text = inputs(net.config)
    assert apart(net(x, sigma, text[:1].expand(2, -1, -1)), net(x, sigma, net.text_kv(text[:1]))) < 1e-6
    assert net(x, sigma, torch.zeros_like(text)).isfinite().all()


def test_only_distance_counts():
    net = made()
    x, sigma, text = inputs(net.config)
    want = net(x, sigma, text, range(5))
    assert apart(want, net(x, sigma, text, [i + 20.0 for i in range(5)])) < 1e-3
    assert apart(want, net(x, sigma, text, torch.arange(5.0))) == 0
    assert apart(want, net(x, sigma, text, [0, 1, 2, 3, 9])) > 2e-3


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fps", [24.0, 30.0, 12.5])
def test_positions_never_leave_the_window_of_twenty_seconds(causal, fps):
    config = tiny(causal_temporal_positioning=causal)
    view = config.max_latent_frames(fps)
    assert max(config.frames(range(view), fps)) <= 20 * fps
    with pytest.raises(PlanError, match=f"end at 20 s: use a window of at most {8 * (view - 1) + 1} frames"):
        config.frames(range(view + 1), fps)
    net = made(causal_temporal_positioning=causal)
    x, _, text = inputs(net.config, frames=2)
    with pytest.raises(PlanError, match="end at 20 s"):
        net(x, torch.tensor(0.5), text, [0, view], fps=fps)


def test_positions_between_latents_and_before_the_first():
    """A picture at frame k stands at k; a reference `temporal_compression` frames before the start."""
    late, early = tiny(causal_temporal_positioning=True), tiny()
    places = [place_of_frame(frame, 8) for frame in (-8, 0, 1, 13, 16, 17)]
    assert late.frames(places, 24.0) == [-8, 0, 1, 13, 16, 17]
    places = [place_of_frame(frame, 8, causal=False) for frame in (-8, 0, 1, 13, 16, 17)]
    assert early.frames(places, 24.0) == [-8, 0, 1, 13, 16, 17]
    assert late.frames([-1, 0, 1, 2], 24.0) == [-8, 0, 1, 9] and early.frames([-1, 0, 1, 2], 24.0) == [-8, 0, 8, 16]


def test_views_at_24_frames_per_second():
    assert [tiny(causal_temporal_positioning=fix).max_latent_frames(24.0) for fix in (False, True)] == [61, 61]
    assert tiny().max_latent_frames(8.0) == 21 and tiny(causal_temporal_positioning=True).max_latent_frames(8.0) == 21
    assert (
        tiny(causal_temporal_positioning=True).max_latent_frames(8.25) == 22
    )  # 165 frames: 8 * 21 - 7 = 161 fit, 8 * 21 do not


# ---------------------------------------------------------------- dropped tokens
def test_dropped_tokens_have_no_influence():
    """Kept tokens see each other where they stood; keeping all is dropping none."""
    net = made(torch.float64)
    x, sigma, text = inputs(net.config, dtype=torch.float64)
    every = torch.arange(30).expand(2, -1)
    assert apart(net(x, sigma, text).flatten(2), net(x, sigma, text, keep=every)) < 1e-12
    last = torch.arange(18, 30).expand(2, -1)  # the last two frames
    want = net(x[:, :, 3:], sigma[:, 3:], text, [3, 4])
    assert apart(want.flatten(2), net(x, sigma, text, keep=last)) < 1e-12
    mixed = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(i))[:20] for i in range(2)])
    got = net(x, sigma, text, keep=mixed)
    for i in range(2):
        alone = net(x[i : i + 1], sigma[i : i + 1], text[i : i + 1], keep=mixed[i : i + 1])
        assert apart(alone, got[i : i + 1]) < 1e-12
    assert got.shape == (2, 4, 20)
    with pytest.raises(ValueError, match="the same prompt"):
        memory = net.text_kv(text)
        net(x, sigma, [memory, memory], scene=[0, 0, 1, 1, 1], keep=every)


def test_tokens_of_videos_of_other_shapes_go_together():
    """A batch of tokens of a long, a wide and a tall video is those videos one by one, each at its own places."""
    net, rng = made(torch.float64), torch.Generator().manual_seed(0)
    text = torch.randn(3, 5, 10, generator=rng, dtype=torch.float64)
    text[1, 2:] = 0  # padding
    sigma = torch.rand(3, 12, generator=rng, dtype=torch.float64)
    x, rope, want = [], [], []
    for row, (frames, height, width) in enumerate([(6, 2, 2), (3, 2, 4), (2, 4, 3)]):
        video = torch.randn(1, 4, frames, height, width, generator=rng, dtype=torch.float64)
        keep = torch.randperm(frames * height * width, generator=rng)[:12]
        sigmas = torch.zeros(frames * height * width, dtype=torch.float64)
        sigmas[keep] = sigma[row]
        spread = sigmas.view(1, frames, height, width)
        want.append(net(video, spread, text[row : row + 1], keep=keep[None]))
        x.append(video[0].flatten(1)[:, keep].T)
        rope.append(net.rope_table(range(frames), height, width, 24.0)[keep])
    got = net.tokens(torch.stack(x), sigma, text, torch.stack(rope))
    assert got.shape == (3, 4, 12)
    assert apart(torch.cat(want), got) < 1e-12


# ---------------------------------------------------------------- training and precision
def test_tables_of_positions_are_few():
    net = made()
    x, sigma, text = inputs(net.config)
    for start in range(5):
        net(x, sigma, text, range(start, start + 5))
    assert len(net.rope_tables) <= 2


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(qk_norm="rms_norm"), "qk_norm"),
        (dict(patch_size_t=2), "patch_size_t"),
        (dict(cross_attention_dim=10), "20 wide"),
        (dict(attention_head_dim=3, cross_attention_dim=6), "even"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)
