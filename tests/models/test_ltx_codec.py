"""The LTX codec equals the reference in three versions; a rolling decode is bit-equal to one shot."""

import copy
import math

import pytest
import torch

from longtake.models.ltx_codec import LTXCodec, keyed_grain
from longtake.models.ltx_codec_config import LTX_090, LTX_091, LTX_095, LTXCodecConfig, tiny, tiny_old
from longtake.noise import mix
from tests.models.oracles import apart, oracle, rand, shuffled, twin

OLD_DECODER = ("decoder_block_out_channels", "decoder_layers_per_block", "decoder_spatio_temporal_scaling")
OLD_DECODER += ("upsample_residual", "upsample_factor", "timestep_conditioning")
CASES = {
    "0.9.0": tiny_old(),
    "0.9.1": tiny_old(
        **{name: getattr(tiny(), name) for name in OLD_DECODER}
        | dict(decoder_inject_noise=(True, True, True, False), decoder_layers_per_block=(1, 2, 1, 2))
    ),
    "0.9.5": tiny(patch_size=2),
    "0.9.5 without timesteps": tiny(timestep_conditioning=False),
    "no layers": tiny(decoder_layers_per_block=(0, 0, 0, 0)),
}
RELEASED = {
    "0.9.0": (LTX_090, 180_404_353, 238_789_296, 191),
    "0.9.1": (LTX_091, 180_404_353, 754_572_081, 241),
    "0.9.5": (LTX_095, 694_098_881, 552_814_641, 173),
}
LATENTS = 5


def made(case: str, **changes) -> LTXCodec:
    codec = shuffled(LTXCodec(CASES[case], **changes))
    codec.latents_mean += rand(4, seed=5)
    codec.latents_std *= 1 + rand(4, seed=6).abs()
    return codec


def video(codec: LTXCodec, latents: int = 3) -> torch.Tensor:
    return rand(2, 3, 1 + codec.stride * (latents - 1), codec.scale, 2 * codec.scale).tanh()


def reference(codec: LTXCodec):
    return twin(oracle("diffusers", "AutoencoderKLLTXVideo"), codec)


def raw(codec: LTXCodec, z: torch.Tensor) -> torch.Tensor:
    return z * codec.latents_std[:, None, None, None] + codec.latents_mean[:, None, None, None]


class Drawn:
    """Injected noise as the reference draws it: of torch's generator, when a layer first needs it."""

    def __call__(self, layer: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(height, width)


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", CASES)
def test_encodes_as_the_reference(case):
    codec = made(case)
    posterior = reference(codec).encode(video(codec)).latent_dist
    mean, logvar = codec.moments(video(codec))
    assert apart(posterior.mean, mean) < 1e-5
    assert apart(posterior.logvar, logvar.clamp(-30, 20).expand_as(mean)) < 1e-5
    assert apart(posterior.mode(), raw(codec, codec.encode(video(codec)))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_decodes_as_the_reference(case):
    codec = made(case, timestep=0.3, grain=Drawn())
    other, z, timed = reference(codec), rand(2, 4, LATENTS, 2, 3), codec.config.timestep_conditioning
    wanted = []
    for time in (0.3, 0.4):
        torch.manual_seed(1)
        wanted.append(other.decode(raw(codec, z), torch.full((2,), time) if timed else None).sample)
    for decode in (codec.decode, codec.decode_whole):
        torch.manual_seed(1)
        assert apart(wanted[0], decode(z)) < 1e-5
    assert (apart(*wanted) > 1e-4) == timed


def test_every_video_may_have_its_own_timestep():
    codec, z = made("0.9.5"), rand(2, 4, 3, 1, 2)
    want = reference(codec).decode(raw(codec, z), torch.tensor([0.0, 0.5])).sample
    assert apart(want, codec.decode_whole(z, torch.tensor([0.0, 0.5]))) < 1e-5


def test_noise_of_the_published_pipeline_is_mixed_in_raw_space():
    """diffusers takes the latents out of normalised space before it adds noise; here that is a change of the noise."""
    codec, z, noise, level = made("0.9.5"), rand(1, 4, 3, 1, 2), rand(1, 4, 3, 1, 2, seed=2), torch.full((3,), 0.2)
    published = (1 - 0.2) * raw(codec, z) + 0.2 * noise
    assert apart(published, raw(codec, mix(z, codec.normalise(noise), level))) < 1e-6
    assert apart(published, raw(codec, mix(z, noise, level))) > 1e-2


@pytest.mark.parametrize("version", RELEASED)
def test_released_sizes(version):
    config, encoder, decoder, lag = RELEASED[version]
    with torch.device("meta"):
        codec, other = LTXCodec(config), twin_config(config)
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (codec, other)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in codec.encoder.parameters()) == encoder
    assert sum(p.numel() for p in codec._modules["decoder"].parameters()) == decoder
    assert (codec.stride, codec.scale, codec.channels, codec.lag) == (8, 32, 128, lag)


def twin_config(config: LTXCodecConfig):
    return oracle("diffusers", "AutoencoderKLLTXVideo")(
        **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(config).items()}
    )


# ---------------------------------------------------------------- streams
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [(9,), (1,) * 9, (2, 6, 1)])
def test_a_rolling_decode_is_bit_equal_to_one_shot(case, parts):
    codec, z = made(case), rand(1, 4, 9, 1, 2)
    decoder = codec.decoder()
    pushed = [decoder.push(part) for part in z.split(parts, 2)]
    shown = 0
    for part, video, latents in zip(parts, pushed, torch.tensor(parts).cumsum(0).tolist(), strict=True):
        shown += video.shape[2]
        assert shown == max(0, 1 + 8 * (latents - 1) - codec.lag), part
    rest = decoder.flush()
    assert rest.shape[2] == min(codec.lag, 65)
    assert torch.equal(torch.cat([*pushed, rest], 2), codec.decode(z))
    assert apart(codec.decode_whole(z), codec.decode(z)) < 1e-5


def test_frames_are_certain_when_they_come():
    codec = made("no layers")
    z, other = rand(1, 4, 6, 1, 2), rand(1, 4, 6, 1, 2)
    other[:, :, 5:] += 1
    certain = codec.decoder().push(z[:, :, :5]).shape[2]
    one, two = codec.decode(z), codec.decode(other)
    assert certain == 33 - codec.lag > 0
    assert torch.equal(one[:, :, :certain], two[:, :, :certain])
    assert not torch.equal(one[:, :, certain], two[:, :, certain])  # it was not held back for nothing


def test_nothing_is_held_back_longer_than_needed_at_the_end():
    codec = made("0.9.5")
    for latents in (1, 2, 3):
        assert codec.decode(rand(1, 4, latents, 1, 1)).shape[2] == 1 + 8 * (latents - 1)
    assert codec.decoder().flush().shape[2] == 0


def test_the_end_comes_in_pieces(monkeypatch):
    """The frames held back go through the widest layers a few at a time."""
    codec, seen = made("0.9.5"), []
    last = codec._modules["decoder"].conv_out
    monkeypatch.setattr(last, "_seen", lambda x, carry, run=last._seen: seen.append(x.shape[1]) or run(x, carry))
    codec.decode(rand(1, 4, 12, 1, 1))
    assert sum(seen) == 89 and max(seen) <= 8


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_encode_equals_the_whole_clip(case):
    codec = made(case)
    assert apart(codec.normalise(codec.moments(video(codec, 4))[0]), codec.encode(video(codec, 4))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_the_encoder_never_looks_ahead(case):
    codec = made(case)
    clip = video(codec, 3)
    for latents in (1, 2):
        part = codec.encode(clip[:, :, : 1 + 8 * (latents - 1)])
        assert torch.equal(part, codec.encode(clip)[:, :, :latents])


def test_a_copied_decoder_goes_on_by_itself():
    """A viewer may see the end at an interrupt, and the video goes on as if it had not."""
    codec, z = made("0.9.1"), rand(1, 4, 12, 1, 1)
    decoder = codec.decoder()
    first = decoder.push(z[:, :, :8])
    early = copy.copy(decoder).flush()
    assert torch.equal(torch.cat((first, early), 2), codec.decode(z[:, :, :8]))
    other = copy.copy(decoder)
    other.push(-z[:, :, 8:])
    assert torch.equal(torch.cat((first, decoder.push(z[:, :, 8:]), decoder.flush()), 2), codec.decode(z))


@pytest.mark.parametrize("case", CASES)
def test_reach_restores_the_decoder_bit_for_bit(case):
    codec = made(case).double()
    z = rand(1, 4, codec.reach + 9, 1, 1, dtype=torch.float64)

    def after(latents: int):
        decoder = codec.decoder()
        decoder.push(z[:, :, codec.reach + 5 - latents : codec.reach + 5])
        return decoder

    whole, replayed, short = (after(n) for n in (codec.reach + 5, codec.reach, codec.reach - 1))
    assert equal(whole._carry, replayed._carry)
    assert not equal(whole._carry, short._carry)
    for latent in z[:, :, codec.reach + 5 :].split(1, 2):
        assert torch.equal(whole.push(latent), replayed.push(latent))
    assert torch.equal(whole.flush(), replayed.flush())


def equal(one, other) -> bool:
    kept = [(getattr(one, name), getattr(other, name)) for name in ("frames", "waiting")]
    assert one.begun == other.begun and all(a.keys() == b.keys() and a for a, b in kept)
    return all(a[layer].shape == b[layer].shape and torch.equal(a[layer], b[layer]) for a, b in kept for layer in a)


@pytest.mark.parametrize("case", CASES)
def test_reach_is_enough_in_single_precision_too(case):
    codec = made(case)
    z = rand(1, 4, codec.reach + 6, 1, 2)
    whole, replayed = codec.decoder(), codec.decoder()
    whole.push(z[:, :, :-1])
    replayed.push(z[:, :, 5:-1])
    assert equal(whole._carry, replayed._carry)
    assert torch.equal(whole.push(z[:, :, -1:]), replayed.push(z[:, :, -1:]))


@pytest.mark.parametrize("version", RELEASED)
def test_lag_and_reach_of_released_codecs(version):
    """The reference gives one-sided receptive fields of 191, 241 and 173 frames."""
    config, _, _, lag = RELEASED[version]
    assert config.lag == lag
    assert 2 * lag <= 8 * config.reach <= 2 * lag + 24


# ---------------------------------------------------------------- injected noise
def test_injected_noise_is_one_picture_for_all_frames_and_never_changes():
    codec, z = made("0.9.1"), rand(1, 4, 4, 2, 2)
    assert torch.equal(codec.decode(z), codec.decode(z))
    assert torch.equal(keyed_grain(3, 4, 5), keyed_grain(3, 4, 5))
    assert not torch.equal(keyed_grain(3, 4, 5), keyed_grain(4, 4, 5))
    codec.grain = None
    off = codec.decode(z)
    codec.grain = lambda layer, height, width: torch.zeros(height, width)
    assert torch.equal(off, codec.decode(z))
    codec.grain = keyed_grain
    assert apart(off, codec.decode(z)) > 1e-3


# ---------------------------------------------------------------- training
@pytest.mark.parametrize("case", ["0.9.0", "0.9.1", "0.9.5"])
def test_gradients_reach_every_weight(case):
    codec = made(case).requires_grad_(True)
    mean, logvar = codec.moments(video(codec))
    (codec.decode_whole(codec.normalise(mean)).square().mean() + logvar.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.parameters())


def test_half_precision_weights():
    codec = made("0.9.5")
    z = rand(1, 4, 3, 1, 2)
    want, latents = codec.decode(z), codec.encode(video(codec))
    codec.to(torch.bfloat16)
    assert codec.decode(z).dtype == torch.float32
    assert apart(want, codec.decode(z)) < 0.2
    assert apart(latents, codec.encode(video(codec))) < 0.2


# ---------------------------------------------------------------- errors
def test_frames_that_fill_no_latent_are_refused():
    codec = made("0.9.5")
    with pytest.raises(ValueError, match=r"8 frames .* 1 \+ 8 \* k, such as 1"):
        codec.encode(torch.zeros(1, 3, 8, 16, 16))
    with pytest.raises(ValueError, match="20x16 do not divide by 16"):
        codec.moments(torch.zeros(1, 3, 9, 20, 16))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(decoder_causal=True), "looks ahead"),
        (dict(patch_size_t=2), "patch_size_t"),
        (dict(downsample_type=("spatial", "temporal", "both", "both")), "both is unknown"),
        (dict(downsample_type=("spatial",) * 4), "1 of 1 frames and 16 pixels, but the decoder 8 frames and 8 pixels"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)


def test_memory_does_not_grow_with_the_clip():
    codec = made("0.9.5")
    decoder, sizes = codec.decoder(), []
    for latent in rand(1, 4, codec.reach + 20, 1, 1).split(1, 2):
        decoder.push(latent)
        sizes.append(
            sum(math.prod(t.shape) for kept in (decoder._carry.frames, decoder._carry.waiting) for t in kept.values())
        )
    assert len(set(sizes[codec.reach :])) == 1
