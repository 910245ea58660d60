"""The Wan codec equals the reference on equal weights; a stream equals one shot bit for bit."""

import copy

import pytest
import torch

from longtake.ledger import Ledger
from longtake.models.wan_codec import TimeConv, WanCodec, WanCodecConfig, initialise, tiny
from tests.models.oracles import apart, oracle, rand, shuffled, twin

PATCH = dict(patch_size=2, in_channels=12, out_channels=12)
CASES = {
    "plain": {},
    "patches": PATCH,
    "wider decoder": dict(decoder_base_dim=6, **PATCH),
    "as released": dict(dim_mult=(1, 2, 4, 4), num_res_blocks=2, temperal_downsample=(False, True, True)),
    "space before time": dict(temperal_downsample=(False, True)),
}
POCKET = dict(base_dim=2, dim_mult=(1, 2, 4), decoder_base_dim=4, **PATCH)  # the pocket codec, narrower
RELEASED = dict(base_dim=2, dim_mult=(1, 2, 4, 4), num_res_blocks=2, temperal_downsample=(False, True, True))


def made(**changes) -> WanCodec:
    return shuffled(WanCodec(tiny(**changes)))


def video(codec: WanCodec, latents: int = 3) -> torch.Tensor:
    return rand(2, 3, 1 + codec.stride * (latents - 1), 2 * codec.scale, 3 * codec.scale).tanh()


def stats(codec: WanCodec) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(s)[:, None, None, None] for s in (codec.config.latents_mean, codec.config.latents_std))


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", [name for name in CASES if name != "space before time"])  # it counts 4 frames a latent
def test_encodes_as_the_reference(case):
    codec = made(**CASES[case])
    posterior = twin(oracle("diffusers", "AutoencoderKLWan"), codec).encode(video(codec)).latent_dist
    mean, logvar = codec.moments(video(codec))
    assert apart(posterior.mean, mean) < 1e-5
    assert apart(posterior.logvar, logvar.clamp(-30, 20)) < 1e-5
    centre, scale = stats(codec)
    assert apart((posterior.mode() - centre) / scale, codec.encode(video(codec))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_decodes_as_the_reference(case):
    codec = made(**CASES[case])
    z = rand(2, 3, 4, 2, 3)
    centre, scale = stats(codec)
    want = twin(oracle("diffusers", "AutoencoderKLWan"), codec).decode(z * scale + centre).sample
    assert apart(want, codec.decode(z).clamp(-1, 1)) < 1e-5
    assert codec.decode(z).abs().max() > 1  # our decoder leaves clamping to the end
    assert apart(codec.decode(z), codec.decode_whole(z)) < 1e-5


def test_released_size():
    with torch.device("meta"):
        codec = WanCodec(WanCodecConfig())
    assert sum(p.numel() for p in codec.parameters()) == 126_892_531
    assert (codec.stride, codec.scale, codec.channels) == (4, 8, 16)


# ---------------------------------------------------------------- streams
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1), (5,), (2, 3), (1, 3, 1)])
def test_a_streamed_decode_is_bit_equal_to_one_shot(case, parts):
    codec = made(**CASES[case])
    z = rand(1, 3, 5, 2, 3)
    decoder = codec.decoder()
    pushed = [decoder.push(part) for part in z.split(parts, 2)]
    assert [p.shape[2] for p in pushed] == [
        codec.stride * n - (codec.stride - 1) * (i == 0) for i, n in enumerate(parts)
    ]
    assert torch.equal(torch.cat([*pushed, decoder.flush()], 2), codec.decode(z))


def test_a_stream_never_looks_ahead():
    codec = made()
    z, other = rand(1, 3, 4, 2, 3), rand(1, 3, 4, 2, 3)
    other[:, :, 2:] += 1
    assert torch.equal(codec.decode(z)[:, :, :5], codec.decode(other)[:, :, :5])
    assert apart(codec.decode(z)[:, :, 5:], codec.decode(other)[:, :, 5:]) > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_encode_equals_the_whole_clip(case):
    codec = made(**CASES[case])
    assert apart(codec.normalise(codec.moments(video(codec, 5))[0]), codec.encode(video(codec, 5))) < 1e-5


def test_memory_does_not_grow_with_the_clip():
    """Of a clip four times as long, what is coded takes more room, and nothing else does."""
    codec = made()

    def most(latents):
        clip, z = video(codec, latents), rand(1, 3, latents, 2, 3)
        with Ledger({"cpu"}, [clip, z, *codec.parameters()]) as encoding:
            codec.encode(clip)
        decoder = codec.decoder()
        with Ledger({"cpu"}, [clip, z, *codec.parameters()]) as decoding:
            for latent in z.split(1, 2):
                decoder.push(latent)
        return encoding.most, decoding.most, z.nbytes

    (encoding, decoding, coded), (long_encoding, long_decoding, more) = most(4), most(16)
    assert long_decoding == decoding
    assert long_encoding - encoding <= 6 * (more - coded) < encoding / 4


def test_latent_0_holds_one_frame():
    codec = made()
    clip = video(codec)
    assert apart(codec.encode(clip)[:, :, :1], codec.encode(clip[:, :, :1])) < 1e-6
    assert codec.decode(codec.encode(clip)).shape == clip.shape


def test_a_copied_decoder_goes_on_by_itself():
    codec = made()
    z = rand(1, 3, 4, 2, 3)
    decoder = codec.decoder()
    decoder.push(z[:, :, :2])
    twin_decoder = copy.copy(decoder)
    twin_decoder.push(-z[:, :, 2:])
    assert torch.equal(decoder.push(z[:, :, 2:]), codec.decode(z)[:, :, 5:])


@pytest.mark.parametrize(
    "shape, reach", [(RELEASED, 38), (POCKET, 28), (dict(temperal_downsample=(False, True)), None)]
)
def test_reach_restores_every_carry_bit_for_bit(shape, reach):
    codec = made(**shape).double()  # in which the faint trace of the farthest latent shows
    assert reach in (None, codec.reach)
    z = rand(1, 3, codec.reach + 6, 1, 1, dtype=torch.float64)

    def after(latents: int):
        decoder = codec.decoder()
        decoder.push(z[:, :, 5 - latents + codec.reach : 5 + codec.reach])
        return decoder

    whole, replayed, short = (after(n) for n in (codec.reach + 5, codec.reach, codec.reach - 1))
    carried = whole._carry.frames
    assert len(carried) == sum(isinstance(m, torch.nn.Conv3d) and m.kernel_size[0] == 3 for m in decoder_parts(codec))
    assert all(torch.equal(carried[layer], replayed._carry.frames[layer]) for layer in carried)
    assert any(not torch.equal(carried[layer], short._carry.frames[layer]) for layer in carried)
    last = z[:, :, -1:]
    assert torch.equal(whole.push(last), replayed.push(last))


def decoder_parts(codec: WanCodec):
    return codec.decoder_net.modules()


# ---------------------------------------------------------------- training
def test_gradients_reach_every_weight():
    codec = made().requires_grad_(True)
    mean, logvar = codec.moments(video(codec))
    for decode in (codec.decode_whole, codec.decode):
        codec.zero_grad()
        (decode(codec.normalise(mean)).square().mean() + logvar.square().mean()).backward(retain_graph=True)
        assert all(p.grad.abs().sum() > 0 for p in codec.parameters())


def test_gradients_of_stream_and_whole_clip_agree():
    codec = made().double().requires_grad_(True)
    z, grads = rand(1, 3, 3, 2, 3, dtype=torch.float64), []
    for decode in (codec.decode_whole, codec.decode):
        codec.zero_grad()
        decode(z).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in codec.decoder_net.parameters()]))
    assert apart(*grads) < 1e-10


def test_a_new_codec_passes_time_through():
    """At the start a still clip stays as bright as its first frame, and posteriors are narrow."""
    codec = WanCodec(tiny())
    initialise(codec)
    for layer in (m for m in codec.modules() if isinstance(m, TimeConv)):
        x = rand(1, 5, 2, 2, layer.in_channels)
        out = layer(x)
        want = x[:, 2 :: layer.stride[0]]
        assert torch.equal(out, torch.cat([want] * (layer.out_channels // layer.in_channels), -1))
    assert codec.moments(video(codec))[1].mean() < -4


def test_half_precision_weights():
    codec = made()
    z = rand(1, 3, 3, 2, 3)
    want, latents = codec.decode(z), codec.encode(video(codec))
    codec.to(torch.bfloat16)
    assert codec.decode(z).dtype == torch.float32
    assert apart(want, codec.decode(z)) < 0.1
    assert apart(latents, codec.encode(video(codec))) < 0.1


# ---------------------------------------------------------------- errors
def test_frames_that_fill_no_latent_are_refused():
    codec = made()
    with pytest.raises(ValueError, match=r"8 frames .* 1 \+ 4 \* k, such as 5"):
        codec.encode(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match="10x8 do not divide by 4"):
        codec.moments(torch.zeros(1, 3, 5, 10, 8))


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
