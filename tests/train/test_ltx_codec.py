"""The codec recipe on an LTX codec: clips of several sizes, a decoder that takes noise away, statistics in the weights."""

from dataclasses import asdict

import pytest
import torch

from longtake.models import ltx_codec
from longtake.models.ltx_codec_config import tiny, tiny_old
from longtake.train.data import Source
from longtake.train.loop import Settings, train
from longtake.train.recipes.codec import CodecRecipe, noised, statistics

TABLE = dict(
    family="ltx", network=asdict(tiny()), frames=18, lengths=(9,), sizes=((16, 16), (16, 24)), judged=1, measured=2
)  # fmt: skip


def recipe(tmp_path, **changes):
    torch.manual_seed(0)
    return CodecRecipe({**TABLE, **changes}, tmp_path)


def test_batches_have_all_sizes(tmp_path):
    made = recipe(tmp_path)
    shapes = {made.batch(torch.Generator().manual_seed(seed))[0].shape for seed in range(8)}
    assert shapes == {(2, 3, 9, 16, 16), (2, 3, 9, 16, 24)}


def test_the_loss_falls(tmp_path):
    made = recipe(tmp_path, sizes=((16, 16),))

    def loss():
        with torch.no_grad():
            return float(made.loss(0, torch.Generator().manual_seed(5)))

    before = loss()
    train(made, Settings(steps=12, lr=1e-2, warmup=2, save=0), tmp_path, lambda line: None)
    assert loss() < 0.85 * before


def test_a_decoder_with_timesteps_is_told_how_much_noise_there_is(tmp_path, monkeypatch):
    made, told = recipe(tmp_path), []
    monkeypatch.setattr(made.module, "decode_whole", lambda z, level=None: told.append((z, level)) or z)
    sample = torch.randn(4, 4, 2, 2, 2)
    made.decoded(sample, torch.Generator().manual_seed(0))
    z, level = told[0]
    assert level.shape == (4,) and level.min() > 0 and level.max() < 0.2
    moved = (z - sample).flatten(1).std(1)
    assert torch.equal(moved.argsort(), level.argsort())
    plain = recipe(tmp_path, network=asdict(tiny_old()))
    monkeypatch.setattr(plain.module, "decode_whole", lambda z, level=None: told.append((z, level)) or z)
    plain.decoded(sample, torch.Generator().manual_seed(0))
    assert told[1][1] is None and torch.equal(told[1][0], sample)


def test_noise_is_mixed_where_channels_are_normal():
    """Channels keep their mean; at level s the deviation is sqrt((1 - s)^2 + s^2) of what it was; level 0 changes nothing."""
    rng = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([0.1, 5.0])[:, None, None, None], torch.tensor([3.0, -40.0])[:, None, None, None]
    z = torch.randn(6, 2, 10, 20, 20, generator=rng) * scale + shift
    noise = torch.randn(z.shape, generator=rng)
    out = noised(z, noise, torch.full((6,), 0.4))
    assert torch.allclose(out.mean((0, 2, 3, 4)), z.mean((0, 2, 3, 4)), rtol=1e-2)
    assert torch.allclose(out.std((0, 2, 3, 4)), (0.36 + 0.16) ** 0.5 * z.std((0, 2, 3, 4)), rtol=1e-2)
    assert torch.allclose(noised(z, noise, torch.zeros(6)), z)


def test_statistics_lie_in_the_weights_and_training_goes_on_from_there(tmp_path):
    made = recipe(tmp_path)
    train(made, Settings(steps=1, warmup=0, save=0), tmp_path, lambda line: None)
    found = ltx_codec.load(tmp_path / "codec", torch.float32)
    assert not torch.equal(found.latents_std, torch.ones(4)) and found.config == tiny()
    mean, std = statistics(found, Source(57, 0.3, 10**7), 2)
    assert torch.allclose(found.latents_mean, mean) and torch.allclose(found.latents_std, std)
    again = CodecRecipe({**TABLE, "network": {}, "start": str(tmp_path / "codec")}, tmp_path / "on")
    assert torch.equal(again.module.latents_std, found.latents_std)
    again.loss(0, torch.Generator().manual_seed(0)).backward()
    assert all(weight.grad is not None for weight in again.module.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths": (5,)}, "lengths are 1 \\+ 8 \\* k"),
        ({"network": {}}, "say what codec to train"),
        ({"family": "other"}, "one of wan, ltx"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        recipe(tmp_path, **changes)
