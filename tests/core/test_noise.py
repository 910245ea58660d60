"""Noise arithmetic: grids as published, lifting that keeps statistics, noise that depends on its key alone."""

import math

import pytest
import torch

from longtake.core.noise import CounterNoise, NoiseKey, PerClip, Recorded, mix, renoise
from longtake.core.sigmas import SIGMA_SPACINGS, parse_sigmas, sigma_schedule, staircase, token_shift


@pytest.mark.parametrize("grid", SIGMA_SPACINGS)
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_ramps_fall_to_zero(grid, shift):
    for steps in (1, 2, 30, 500):
        sigmas = sigma_schedule(steps, shift, grid)
        assert sigmas.shape == (steps + 1,)
        assert (sigmas[1:] < sigmas[:-1]).all()
        assert sigmas[-1] == 0
        assert sigmas[0] <= 1


def test_published_timesteps():
    """The first and last timesteps of both public SkyReels-V2 implementations, 30 steps, shift 8."""
    official = (1000 * sigma_schedule(30, 8.0, "skyreels")).int().tolist()
    diffusers = (1000 * sigma_schedule(30, 8.0, "diffusers")).int().tolist()
    assert official[:5] + official[-4:-1] == [999, 995, 991, 986, 980, 470, 363, 216]
    assert diffusers[:5] + diffusers[-4:-1] == [999, 995, 991, 986, 981, 473, 367, 221]


@pytest.mark.parametrize("bad", [dict(steps=0), dict(steps=3, shift=0.0), dict(steps=3, shift=float("nan"))])
def test_bad_grids_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        sigma_schedule(**bad)


def test_staircase():
    table = staircase(sigma_schedule(2), torch.tensor([0, 0, 1]), torch.arange(4), 1)
    assert table.tolist() == [[1, 1, 1], [0.5, 0.5, 1], [0, 0, 0.5], [0, 0, 0]]


def test_lift_keeps_the_statistics():
    """Video lifted from 0.2 to 0.7 is distributed as video mixed with noise at 0.7, with the video part intact."""
    rng = torch.Generator().manual_seed(0)
    video, first, second = (torch.randn((1, 1, 2, 300, 300), generator=rng) for _ in range(3))
    sigma, target = torch.tensor([0.2, 0.0]), torch.tensor([0.7, 0.7])
    lifted = renoise(mix(video, first, sigma), second, sigma, target)
    direct = mix(video, second, target)
    for i in range(2):
        assert abs(lifted[0, 0, i].var() / direct[0, 0, i].var() - 1) < 0.02
        assert abs((lifted * video)[0, 0, i].mean() - 0.3) < 0.01


def test_lift_to_the_same_level_changes_nothing():
    x, noise, sigma = torch.randn(1, 2, 3, 4, 4), torch.randn(1, 2, 3, 4, 4), torch.tensor([0.0, 0.4, 1.0])
    assert torch.equal(renoise(x, noise, sigma, sigma), x)


def key(**changes):
    return NoiseKey(**{**dict(purpose="start", frame=5, clip=0, index=2), **changes})


def test_keyed_noise_depends_on_its_key_alone():
    shape, noise = (4, 6, 6), CounterNoise((7,))
    one = noise([key()], shape)
    assert torch.equal(one, noise([key(frame=1), key()], shape)[:, :, 1:])
    assert torch.equal(one, noise([key(clip=3, index=9)], shape)), "the same output frame of another take is the same"
    for other in (key(frame=6), key(purpose="context"), key(draw=1), key(step=1)):
        assert not torch.equal(one, noise([other], shape))
    assert not torch.equal(one, CounterNoise((8,))([key()], shape))
    assert torch.equal(CounterNoise((7, 8))([key()], shape)[:1], one)


def test_keyed_noise_never_changes():
    """Videos made long ago can be made again: the first values of one key, as they are for ever."""
    values = CounterNoise((0,))([NoiseKey("start", 0, 0, 0)], (1, 1, 4)).flatten().tolist()
    assert values == pytest.approx(FIRST, abs=1e-6)


FIRST = [2.3084776, -0.5460277, -2.4559, -0.9906145]


def test_keyed_noise_is_normal():
    noise = CounterNoise((1,))([key(frame=f) for f in range(50)], (4, 32, 32))
    assert abs(noise.mean()) < 0.01
    assert abs(noise.var() - 1) < 0.01
    neighbours = (noise[:, :, 1:] * noise[:, :, :-1]).mean()
    assert abs(neighbours) < 0.01


def test_noise_per_clip_is_the_published_draw():
    noise = PerClip(length=5, factor=42)([key(clip=2, index=i) for i in (1, 3)], (3, 2, 2))
    whole = torch.randn((1, 3, 5, 2, 2), generator=torch.Generator().manual_seed(84))
    assert torch.equal(noise, whole[:, :, [1, 3]])
    with pytest.raises(ValueError, match="use CounterNoise"):
        PerClip(length=5)([key(purpose="context")], (3, 2, 2))


def test_recorded_noise():
    value = torch.randn(1, 3, 2, 2)
    table = {("start", 0, 2, 0, 0): value}
    assert torch.equal(Recorded(table)([key()], (3, 2, 2))[:, :, 0], value)
    with pytest.raises(KeyError):
        Recorded(table)([key(index=1)], (3, 2, 2))


# ---------------------------------------------------------------- LTX-Video
def official_quadratic(steps: int, threshold: float = 0.025) -> list[float]:
    """The published linear-quadratic levels, in its own terms."""
    if steps == 1:
        return [1.0]
    line, rest = steps // 2, steps - steps // 2
    gap = line - threshold * steps
    coefficient, slope = gap / (line * rest**2), threshold / line - 2 * gap / rest**2
    away = [i * threshold / line for i in range(line)]
    away += [coefficient * i**2 + slope * i + coefficient * line**2 for i in range(line, steps)]
    return [1 - u for u in away]


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 30, 40, 101])
def test_the_linear_quadratic_grid_is_the_published_one(steps):
    sigmas = sigma_schedule(steps, 1.0, "quadratic")
    assert sigmas[:-1].tolist() == pytest.approx(official_quadratic(steps), abs=1e-12) and sigmas[-1] == 0


def test_the_linear_quadratic_grid_of_eight_is_that_of_distilled_checkpoints():
    assert sigma_schedule(8, 1.0, "quadratic").tolist() == pytest.approx(
        [1, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0]
    )


@pytest.mark.parametrize("steps", [2, 8, 20, 40])
@pytest.mark.parametrize("tokens", [384, 1024, 4096, 6144])
def test_the_shifted_grid_is_the_published_one(steps, tokens):
    mu = 0.95 + (tokens - 1024) * 1.1 / 3072
    sigma = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    moved = math.exp(mu) / (math.exp(mu) + (1 / sigma - 1))
    away = 1 - moved
    want = 1 - away / (away[-1] / 0.9)
    assert torch.allclose(sigma_schedule(steps, token_shift(tokens), "terminal")[:-1], want, atol=1e-9)
    assert token_shift(1024) == pytest.approx(math.exp(0.95)) and token_shift(4096) == pytest.approx(math.exp(2.05))


@pytest.mark.parametrize("tokens", [30_000, 52_000, 69_504, 10**6, 10**7])
def test_the_shifted_grid_has_no_largest_video(tokens):
    """The published float32 formula gives NaN from 52 thousand tokens on; the grid nears a limit instead."""
    sigmas, steps = sigma_schedule(20, token_shift(tokens), "terminal"), 20
    assert sigmas.isfinite().all() and (sigmas[1:] < sigmas[:-1]).all()
    assert sigmas[-2] == pytest.approx(0.1, abs=1e-9)
    sigma = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    limit = 1 - 0.9 * (1 / sigma - 1) / (steps - 1)
    assert torch.allclose(sigmas[:-1], limit, atol=1e-4 if tokens < 50_000 else 1e-8)


def test_one_step_of_a_shifted_grid():
    assert sigma_schedule(1, 7.0, "terminal").tolist() == [1, 0]


def test_levels_may_be_listed():
    assert parse_sigmas("1, 0.9,0.725") == [1, 0.9, 0.725] == parse_sigmas("1,0.9,0.725,0")
    for wrong in ("", "a,b", "1,1", "1.2,0.5", "0.5,0.7", "0", "0.5,-0.1", "0.9,0,0"):
        with pytest.raises(ValueError, match="--sigmas"):
            parse_sigmas(wrong)
