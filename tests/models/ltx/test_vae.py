"""The LTX vae equals the reference in three versions; a rolling decode is bit-equal to one shot."""

import copy
import math

import pytest
import torch

from longtake.core.flat_config import to_flat
from longtake.core.noise import mix
from longtake.models.ltx.vae import LTXVAE, keyed_noise
from longtake.models.ltx.vae_config import LTX_090, LTX_091, LTX_095, LTXVAEConfig, tiny, tiny_old
from tests.oracles import apart, oracle, rand, shuffled, twin

OLD_DECODER = ("decoder_block_out_channels", "decoder_layers_per_block", "decoder_spatio_temporal_scaling")
OLD_DECODER += ("upsample_residual", "upsample_factor", "timestep_conditioning")
CASES = {
    "0.9.0": tiny_old(),
    "0.9.1": tiny_old(
        **{name: to_flat(tiny())[name] for name in OLD_DECODER}
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


def made(case: str, **changes) -> LTXVAE:
    vae = shuffled(LTXVAE(CASES[case], **changes))
    vae.latents_mean += rand(4, seed=5)
    vae.latents_std *= 1 + rand(4, seed=6).abs()
    return vae


def video(vae: LTXVAE, latents: int = 3) -> torch.Tensor:
    return rand(
        2, 3, 1 + vae.temporal_compression * (latents - 1), vae.spatial_compression, 2 * vae.spatial_compression
    ).tanh()


def reference(vae: LTXVAE):
    return twin(oracle("diffusers", "AutoencoderKLLTXVideo"), vae)


def raw(vae: LTXVAE, z: torch.Tensor) -> torch.Tensor:
    return z * vae.latents_std[:, None, None, None] + vae.latents_mean[:, None, None, None]


class Drawn:
    """Injected noise as the reference draws it: of torch's generator, when a layer first needs it."""

    def __call__(self, layer: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(height, width)


# ---------------------------------------------------------------- the reference
@pytest.mark.parametrize("case", CASES)
def test_encodes_as_the_reference(case):
    vae = made(case)
    posterior = reference(vae).encode(video(vae)).latent_dist
    mean, logvar = vae.moments(video(vae))
    assert apart(posterior.mean, mean) < 1e-5
    assert apart(posterior.logvar, logvar.clamp(-30, 20).expand_as(mean)) < 1e-5
    assert apart(posterior.mode(), raw(vae, vae.encode(video(vae)))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_decodes_as_the_reference(case):
    vae = made(case, timestep=0.3, noise=Drawn())
    other, z, timed = reference(vae), rand(2, 4, LATENTS, 2, 3), vae.denoises
    wanted = []
    for time in (0.3, 0.4):
        torch.manual_seed(1)
        wanted.append(other.decode(raw(vae, z), torch.full((2,), time) if timed else None).sample)
    for decode in (vae.decode, vae.decode_whole):
        torch.manual_seed(1)
        assert apart(wanted[0], decode(z)) < 1e-5
    assert (apart(*wanted) > 1e-4) == timed


def test_every_video_may_have_its_own_timestep():
    vae, z = made("0.9.5"), rand(2, 4, 3, 1, 2)
    want = reference(vae).decode(raw(vae, z), torch.tensor([0.0, 0.5])).sample
    assert apart(want, vae.decode_whole(z, torch.tensor([0.0, 0.5]))) < 1e-5


def test_noise_of_the_published_pipeline_is_mixed_in_raw_space():
    """diffusers takes the latents out of normalised space before it adds noise; here that is a change of the noise."""
    vae, z, noise, sigma = made("0.9.5"), rand(1, 4, 3, 1, 2), rand(1, 4, 3, 1, 2, seed=2), torch.full((3,), 0.2)
    published = (1 - 0.2) * raw(vae, z) + 0.2 * noise
    assert apart(published, raw(vae, mix(z, vae.normalise(noise), sigma))) < 1e-6
    assert apart(published, raw(vae, mix(z, noise, sigma))) > 1e-2


@pytest.mark.parametrize("version", RELEASED)
def test_released_sizes(version):
    config, encoder, decoder, lag = RELEASED[version]
    with torch.device("meta"):
        vae, other = LTXVAE(config), twin_config(config)
    shapes = [{name: tuple(t.shape) for name, t in net.state_dict().items()} for net in (vae, other)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in vae.encoder.parameters()) == encoder
    assert sum(p.numel() for p in dict(vae.named_children())["decoder"].parameters()) == decoder
    assert (vae.temporal_compression, vae.spatial_compression, vae.channels, vae.lag) == (8, 32, 128, lag)


def twin_config(config: LTXVAEConfig):
    return oracle("diffusers", "AutoencoderKLLTXVideo")(
        **{k: list(v) if isinstance(v, tuple) else v for k, v in to_flat(config).items()}
    )


# ---------------------------------------------------------------- streams
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [(9,), (1,) * 9, (2, 6, 1)])
def test_a_rolling_decode_is_bit_equal_to_one_shot(case, parts):
    vae, z = made(case), rand(1, 4, 9, 1, 2)
    decoder = vae.decoder()
    pushed = [decoder.push(part) for part in z.split(parts, 2)]
    shown = 0
    for part, video, latents in zip(parts, pushed, torch.tensor(parts).cumsum(0).tolist(), strict=True):
        shown += video.shape[2]
        assert shown == max(0, 1 + 8 * (latents - 1) - vae.lag), part
    rest = decoder.flush()
    assert rest.shape[2] == min(vae.lag, 65)
    assert torch.equal(torch.cat([*pushed, rest], 2), vae.decode(z))
    assert apart(vae.decode_whole(z), vae.decode(z)) < 1e-5


def test_frames_are_certain_when_they_come():
    vae = made("no layers")
    z, other = rand(1, 4, 6, 1, 2), rand(1, 4, 6, 1, 2)
    other[:, :, 5:] += 1
    certain = vae.decoder().push(z[:, :, :5]).shape[2]
    one, two = vae.decode(z), vae.decode(other)
    assert certain == 33 - vae.lag > 0
    assert torch.equal(one[:, :, :certain], two[:, :, :certain])
    assert not torch.equal(one[:, :, certain], two[:, :, certain])  # it was not held back for nothing


def test_nothing_is_held_back_longer_than_needed_at_the_end():
    vae = made("0.9.5")
    for latents in (1, 2, 3):
        assert vae.decode(rand(1, 4, latents, 1, 1)).shape[2] == 1 + 8 * (latents - 1)
    assert vae.decoder().flush().shape[2] == 0


def test_the_end_of_a_clip_is_decoded_in_pieces(monkeypatch):
    """The withheld frames go through the widest layers a few at a time."""
    vae, counts = made("0.9.5"), []
    last = dict(vae.named_children())["decoder"].conv_out
    context = last.with_context
    monkeypatch.setattr(last, "with_context", lambda x, cache: counts.append(x.shape[1]) or context(x, cache))
    vae.decode(rand(1, 4, 12, 1, 1))
    assert sum(counts) == 89 and max(counts) <= 8


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_encode_equals_the_whole_clip(case):
    vae = made(case)
    assert apart(vae.normalise(vae.moments(video(vae, 4))[0]), vae.encode(video(vae, 4))) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_the_encoder_is_causal(case):
    vae = made(case)
    clip = video(vae, 3)
    for latents in (1, 2):
        part = vae.encode(clip[:, :, : 1 + 8 * (latents - 1)])
        assert torch.equal(part, vae.encode(clip)[:, :, :latents])


def test_a_copied_decoder_continues_on_its_own():
    """A viewer may see the end at an interrupt, and the video continues as if it had not."""
    vae, z = made("0.9.1"), rand(1, 4, 12, 1, 1)
    decoder = vae.decoder()
    first = decoder.push(z[:, :, :8])
    early = copy.copy(decoder).flush()
    assert torch.equal(torch.cat((first, early), 2), vae.decode(z[:, :, :8]))
    other = copy.copy(decoder)
    other.push(-z[:, :, 8:])
    assert torch.equal(torch.cat((first, decoder.push(z[:, :, 8:]), decoder.flush()), 2), vae.decode(z))


@pytest.mark.parametrize("case", CASES)
def test_replay_latents_restore_the_decoder_bit_for_bit(case):
    vae = made(case).double()
    z = rand(1, 4, vae.replay_latents + 9, 1, 1, dtype=torch.float64)

    def after(latents: int):
        decoder = vae.decoder()
        decoder.push(z[:, :, vae.replay_latents + 5 - latents : vae.replay_latents + 5])
        return decoder

    whole, replayed, short = (after(n) for n in (vae.replay_latents + 5, vae.replay_latents, vae.replay_latents - 1))
    assert equal(whole.cache, replayed.cache)
    assert not equal(whole.cache, short.cache)
    for latent in z[:, :, vae.replay_latents + 5 :].split(1, 2):
        assert torch.equal(whole.push(latent), replayed.push(latent))
    assert torch.equal(whole.flush(), replayed.flush())


def equal(one, other) -> bool:
    kept = [(getattr(one, name), getattr(other, name)) for name in ("frames", "waiting")]
    assert one.begun == other.begun and all(a.keys() == b.keys() and a for a, b in kept)
    return all(a[layer].shape == b[layer].shape and torch.equal(a[layer], b[layer]) for a, b in kept for layer in a)


@pytest.mark.parametrize("case", CASES)
def test_replay_latents_are_enough_in_single_precision(case):
    vae = made(case)
    z = rand(1, 4, vae.replay_latents + 6, 1, 2)
    whole, replayed = vae.decoder(), vae.decoder()
    whole.push(z[:, :, :-1])
    replayed.push(z[:, :, 5:-1])
    assert equal(whole.cache, replayed.cache)
    assert torch.equal(whole.push(z[:, :, -1:]), replayed.push(z[:, :, -1:]))


@pytest.mark.parametrize("version", RELEASED)
def test_lag_and_replay_latents_of_released_vaes(version):
    """The reference gives one-sided receptive fields of 191, 241 and 173 frames."""
    config, _, _, lag = RELEASED[version]
    assert config.decoder.lag == lag
    assert 2 * lag <= 8 * config.decoder.replay_latents <= 2 * lag + 24


# ---------------------------------------------------------------- injected noise
def test_injected_noise_is_one_picture_for_all_frames_and_never_changes():
    vae, z = made("0.9.1"), rand(1, 4, 4, 2, 2)
    assert torch.equal(vae.decode(z), vae.decode(z))
    assert torch.equal(keyed_noise(3, 4, 5), keyed_noise(3, 4, 5))
    assert not torch.equal(keyed_noise(3, 4, 5), keyed_noise(4, 4, 5))
    vae.noise = None
    off = vae.decode(z)
    vae.noise = lambda layer, height, width: torch.zeros(height, width)
    assert torch.equal(off, vae.decode(z))
    vae.noise = keyed_noise
    assert apart(off, vae.decode(z)) > 1e-3


# ---------------------------------------------------------------- training
@pytest.mark.parametrize("case", ["0.9.0", "0.9.1", "0.9.5"])
def test_gradients_reach_every_weight(case):
    vae = made(case).requires_grad_(True)
    mean, logvar = vae.moments(video(vae))
    (vae.decode_whole(vae.normalise(mean)).square().mean() + logvar.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())


def test_half_precision_weights():
    vae = made("0.9.5")
    z = rand(1, 4, 3, 1, 2)
    want, latents = vae.decode(z), vae.encode(video(vae))
    vae.to(torch.bfloat16)
    assert vae.decode(z).dtype == torch.float32
    assert apart(want, vae.decode(z)) < 0.2
    assert apart(latents, vae.encode(video(vae))) < 0.2


# ---------------------------------------------------------------- errors
def test_frames_that_fill_no_latent_are_refused():
    vae = made("0.9.5")
    with pytest.raises(ValueError, match=r"8 frames .* 1 \+ 8 \* k frames, such as 1"):
        vae.encode(torch.zeros(1, 3, 8, 16, 16))
    with pytest.raises(ValueError, match="16x20 pixels are not whole latent pixels"):
        vae.moments(torch.zeros(1, 3, 9, 20, 16))


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(decoder_causal=True), "decoder that is not causal"),
        (dict(patch_size_t=2), "patch_size_t"),
        (dict(downsample_type=("spatial", "temporal", "both", "both")), "both is unknown"),
        (
            dict(downsample_type=("spatial",) * 4),
            "1 frames and 16 pixels into one, but the decoder expands one to 8 frames and 8 pixels",
        ),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)


def test_memory_does_not_grow_with_the_clip():
    vae = made("0.9.5")
    decoder, sizes = vae.decoder(), []
    for latent in rand(1, 4, vae.replay_latents + 20, 1, 1).split(1, 2):
        decoder.push(latent)
        sizes.append(
            sum(math.prod(t.shape) for kept in (decoder.cache.frames, decoder.cache.waiting) for t in kept.values())
        )
    assert len(set(sizes[vae.replay_latents :])) == 1
