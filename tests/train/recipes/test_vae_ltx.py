"""The vae recipe with an LTX VAE: clips of several sizes, a decoder that removes noise, statistics in the weights."""

import pytest
import torch

from longtake.core.flat_config import to_flat
from longtake.models.ltx import vae as ltx_vae
from longtake.models.ltx.vae_config import tiny, tiny_old
from longtake.pocket.clips import Source
from longtake.train.loop import train
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.vae import VAERecipe, noised, statistics

TABLE = dict(
    family="ltx", network=to_flat(tiny()), frames=18, lengths=(9,), sizes=("16x16", "24x16"), eval_clips=1, statistics_clips=2
)  # fmt: skip


def recipe(tmp_path, **changes):
    torch.manual_seed(0)
    return VAERecipe({**TABLE, **changes}, tmp_path)


def test_batches_have_all_sizes(tmp_path):
    made = recipe(tmp_path)
    shapes = {made.batch(torch.Generator().manual_seed(seed))[0].shape for seed in range(8)}
    assert shapes == {(2, 3, 9, 16, 16), (2, 3, 9, 16, 24)}


def test_the_loss_falls(tmp_path):
    made = recipe(tmp_path, sizes=("16x16",))

    def loss():
        with torch.no_grad():
            return float(made.loss(0, torch.Generator().manual_seed(5)))

    before = loss()
    train(made, LoopConfig.of(steps=12, lr=1e-2, warmup=2, save_every=0), tmp_path, lambda line: None)
    assert loss() < 0.85 * before


def test_a_decoder_with_timesteps_is_conditioned_on_its_noise(tmp_path, monkeypatch):
    made, calls = recipe(tmp_path), []
    monkeypatch.setattr(made.module, "decode_whole", lambda z, sigma=None: calls.append((z, sigma)) or z)
    sample = torch.randn(4, 4, 2, 2, 2)
    made.decoded(sample, torch.Generator().manual_seed(0))
    z, sigma = calls[0]
    assert sigma.shape == (4,) and sigma.min() > 0 and sigma.max() < 0.2
    moved = (z - sample).flatten(1).std(1)
    assert torch.equal(moved.argsort(), sigma.argsort())
    plain = recipe(tmp_path, network=to_flat(tiny_old()))
    monkeypatch.setattr(plain.module, "decode_whole", lambda z, sigma=None: calls.append((z, sigma)) or z)
    plain.decoded(sample, torch.Generator().manual_seed(0))
    assert calls[1][1] is None and torch.equal(calls[1][0], sample)


def test_noise_is_mixed_where_channels_are_normal():
    """Channels keep their mean; at sigma s the deviation is multiplied by sqrt((1 - s)^2 + s^2); sigma 0 changes nothing."""
    rng = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([0.1, 5.0])[:, None, None, None], torch.tensor([3.0, -40.0])[:, None, None, None]
    z = torch.randn(6, 2, 10, 20, 20, generator=rng) * scale + shift
    noise = torch.randn(z.shape, generator=rng)
    out = noised(z, noise, torch.full((6,), 0.4))
    assert torch.allclose(out.mean((0, 2, 3, 4)), z.mean((0, 2, 3, 4)), rtol=1e-2)
    assert torch.allclose(out.std((0, 2, 3, 4)), (0.36 + 0.16) ** 0.5 * z.std((0, 2, 3, 4)), rtol=1e-2)
    assert torch.allclose(noised(z, noise, torch.zeros(6)), z)


def test_statistics_are_in_the_weights_and_training_starts_from_them(tmp_path):
    made = recipe(tmp_path)
    train(made, LoopConfig.of(steps=1, warmup=0, save_every=0), tmp_path, lambda line: None)
    found = ltx_vae.load(tmp_path / "vae", torch.float32)
    assert not torch.equal(found.latents_std, torch.ones(4)) and found.config == tiny()
    mean, std = statistics(found, Source(57, 0.3, 10**7), 2)
    assert torch.allclose(found.latents_mean, mean) and torch.allclose(found.latents_std, std)
    again = VAERecipe({**TABLE, "network": {}, "init": str(tmp_path / "vae")}, tmp_path / "on")
    assert torch.equal(again.module.latents_std, found.latents_std)
    again.loss(0, torch.Generator().manual_seed(0)).backward()
    assert all(weight.grad is not None for weight in again.module.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths": (5,)}, "use lengths of 1 \\+ 8 \\* k"),
        ({"network": {}}, "there is no VAE to train"),
        ({"family": "other"}, "one of wan, ltx"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        recipe(tmp_path, **changes)
