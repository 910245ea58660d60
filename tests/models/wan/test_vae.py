"""The Wan vae equals the reference on equal weights; a stream equals one shot bit for bit."""

import copy

import pytest
import torch

from longtake.core.profiling import MemoryTracker
from longtake.models.wan.vae import TimeConv, WanVAE, initialise
from longtake.models.wan.vae_config import WanVAEConfig, tiny
from tests.oracles import apart, oracle, rand, shuffled, twin

PATCH = dict(patch_size=2, in_channels=12, out_channels=12)
CASES = {
    "plain": {},
    "patches": PATCH,
    "wider decoder": dict(decoder_base_dim=6, **PATCH),
    "as released": dict(dim_mult=(1, 2, 4, 4), num_res_blocks=2, temperal_downsample=(False, True, True)),
    "space before time": dict(temperal_downsample=(False, True)),
}
POCKET = dict(base_dim=2, dim_mult=(1, 2, 4), decoder_base_dim=4, **PATCH)  # the pocket vae, narrower
RELEASED = dict(base_dim=2, dim_mult=(1, 2, 4, 4), num_res_blocks=2, temperal_downsample=(False, True, True))


def made(**changes) -> WanVAE:
    return shuffled(WanVAE(tiny(**changes)))


def video(vae: WanVAE, latents: int = 3) -> torch.Tensor:
    return rand(
        2, 3, 1 + vae.temporal_compression * (latents - 1), 2 * vae.spatial_compression, 3 * vae.spatial_compression
    ).tanh()


def stats(vae: WanVAE) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(s)[:, None, None, None] for s in (vae.config.latents_mean, vae.config.latents_std))


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", [name for name in CASES if name != "space before time"])  # it counts 4 frames a latent
def test_encodes_as_the_reference(case):
    vae = made(**CASES[case])
    posterior = twin(oracle("diffusers", "AutoencoderKLWan"), vae).encode(video(vae)).latent_dist
    mean, logvar = vae.moments(video(vae))
    assert apart(posterior.mean, mean) < 1e-5
    assert apart(posterior.logvar, logvar.clamp(-30, 20)) < 1e-5
    centre, scale = stats(vae)
    assert apart((posterior.mode() - centre) / scale, vae.encode(video(vae))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_decodes_as_the_reference(case):
    vae = made(**CASES[case])
    z = rand(2, 3, 4, 2, 3)
    centre, scale = stats(vae)
    want = twin(oracle("diffusers", "AutoencoderKLWan"), vae).decode(z * scale + centre).sample
    assert apart(want, vae.decode(z).clamp(-1, 1)) < 1e-5
    assert vae.decode(z).abs().max() > 1  # our decoder leaves clamping to the end
    assert apart(vae.decode(z), vae.decode_whole(z)) < 1e-5


def test_released_size():
    with torch.device("meta"):
        vae = WanVAE(WanVAEConfig())
    assert sum(p.numel() for p in vae.parameters()) == 126_892_531
    assert (vae.temporal_compression, vae.spatial_compression, vae.channels) == (4, 8, 16)


# ---------------------------------------------------------------- streams
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1), (5,), (2, 3), (1, 3, 1)])
def test_a_streamed_decode_is_bit_equal_to_one_shot(case, parts):
    vae = made(**CASES[case])
    z = rand(1, 3, 5, 2, 3)
    decoder = vae.decoder()
    pushed = [decoder.push(part) for part in z.split(parts, 2)]
    assert [p.shape[2] for p in pushed] == [
        vae.temporal_compression * n - (vae.temporal_compression - 1) * (i == 0) for i, n in enumerate(parts)
    ]
    assert torch.equal(torch.cat([*pushed, decoder.flush()], 2), vae.decode(z))


def test_a_stream_is_causal():
    vae = made()
    z, other = rand(1, 3, 4, 2, 3), rand(1, 3, 4, 2, 3)
    other[:, :, 2:] += 1
    assert torch.equal(vae.decode(z)[:, :, :5], vae.decode(other)[:, :, :5])
    assert apart(vae.decode(z)[:, :, 5:], vae.decode(other)[:, :, 5:]) > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_encode_equals_the_whole_clip(case):
    vae = made(**CASES[case])
    assert apart(vae.normalise(vae.moments(video(vae, 5))[0]), vae.encode(video(vae, 5))) < 1e-5


def test_memory_does_not_grow_with_the_clip():
    """Of a clip four times as long, what is coded takes more room, and nothing else does."""
    vae = made()

    def most(latents):
        clip, z = video(vae, latents), rand(1, 3, latents, 2, 3)
        with MemoryTracker({"cpu"}, [clip, z, *vae.parameters()]) as encoding:
            vae.encode(clip)
        decoder = vae.decoder()
        with MemoryTracker({"cpu"}, [clip, z, *vae.parameters()]) as decoding:
            for latent in z.split(1, 2):
                decoder.push(latent)
        return encoding.most, decoding.most, z.nbytes

    (encoding, decoding, coded), (long_encoding, long_decoding, more) = most(4), most(16)
    assert long_decoding == decoding
    assert long_encoding - encoding <= 6 * (more - coded) < encoding / 4


def test_latent_0_holds_one_frame():
    vae = made()
    clip = video(vae)
    assert apart(vae.encode(clip)[:, :, :1], vae.encode(clip[:, :, :1])) < 1e-6
    assert vae.decode(vae.encode(clip)).shape == clip.shape


def test_a_copied_decoder_continues_on_its_own():
    vae = made()
    z = rand(1, 3, 4, 2, 3)
    decoder = vae.decoder()
    decoder.push(z[:, :, :2])
    twin_decoder = copy.copy(decoder)
    twin_decoder.push(-z[:, :, 2:])
    assert torch.equal(decoder.push(z[:, :, 2:]), vae.decode(z)[:, :, 5:])


@pytest.mark.parametrize(
    "shape, replay_latents", [(RELEASED, 38), (POCKET, 28), (dict(temperal_downsample=(False, True)), None)]
)
def test_replay_latents_restore_every_cache_bit_for_bit(shape, replay_latents):
    vae = made(**shape).double()  # in which the faint trace of the farthest latent shows
    assert replay_latents in (None, vae.replay_latents)
    z = rand(1, 3, vae.replay_latents + 6, 1, 1, dtype=torch.float64)

    def after(latents: int):
        decoder = vae.decoder()
        decoder.push(z[:, :, 5 - latents + vae.replay_latents : 5 + vae.replay_latents])
        return decoder

    whole, replayed, short = (after(n) for n in (vae.replay_latents + 5, vae.replay_latents, vae.replay_latents - 1))
    carried = whole.cache.frames
    assert len(carried) == sum(isinstance(m, torch.nn.Conv3d) and m.kernel_size[0] == 3 for m in decoder_parts(vae))
    assert all(torch.equal(carried[layer], replayed.cache.frames[layer]) for layer in carried)
    assert any(not torch.equal(carried[layer], short.cache.frames[layer]) for layer in carried)
    last = z[:, :, -1:]
    assert torch.equal(whole.push(last), replayed.push(last))


def decoder_parts(vae: WanVAE):
    return vae.decoder_net.modules()


# ---------------------------------------------------------------- training
def test_gradients_reach_every_weight():
    vae = made().requires_grad_(True)
    mean, logvar = vae.moments(video(vae))
    for decode in (vae.decode_whole, vae.decode):
        vae.zero_grad()
        (decode(vae.normalise(mean)).square().mean() + logvar.square().mean()).backward(retain_graph=True)
        assert all(p.grad.abs().sum() > 0 for p in vae.parameters())


def test_gradients_of_stream_and_whole_clip_agree():
    vae = made().double().requires_grad_(True)
    z, grads = rand(1, 3, 3, 2, 3, dtype=torch.float64), []
    for decode in (vae.decode_whole, vae.decode):
        vae.zero_grad()
        decode(z).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in vae.decoder_net.parameters()]))
    assert apart(*grads) < 1e-10


def test_a_new_vae_passes_time_through():
    """At the start a still clip stays as bright as its first frame, and posteriors are narrow."""
    vae = WanVAE(tiny())
    initialise(vae)
    for layer in (m for m in vae.modules() if isinstance(m, TimeConv)):
        x = rand(1, 5, 2, 2, layer.in_channels)
        out = layer(x)
        want = x[:, 2 :: layer.stride[0]]
        assert torch.equal(out, torch.cat([want] * (layer.out_channels // layer.in_channels), -1))
    assert vae.moments(video(vae))[1].mean() < -4


def test_half_precision_weights():
    vae = made()
    z = rand(1, 3, 3, 2, 3)
    want, latents = vae.decode(z), vae.encode(video(vae))
    vae.to(torch.bfloat16)
    assert vae.decode(z).dtype == torch.float32
    assert apart(want, vae.decode(z)) < 0.1
    assert apart(latents, vae.encode(video(vae))) < 0.1


# ---------------------------------------------------------------- errors
def test_frames_that_fill_no_latent_are_refused():
    vae = made()
    with pytest.raises(ValueError, match=r"8 frames .* 1 \+ 4 \* k frames, such as 5"):
        vae.encode(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match="8x10 pixels are not whole latent pixels"):
        vae.moments(torch.zeros(1, 3, 5, 10, 8))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(is_residual=True), "Wan 2.2"),
        (dict(temperal_downsample=(True,)), "need 2"),
        (dict(latents_std=(1.0,)), "each of the 3"),
        (dict(patch_size=2), "12 channels"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)
