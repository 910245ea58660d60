"""Metrics of synthetic pictures have the values that their definitions give."""

import math

import pytest
import torch

from longtake.metrics import METRICS, Segment
from longtake.metrics.colour_cast import chroma
from longtake.metrics.segment import luma
from longtake.metrics.sharpness import blur


def value(name, frames, fps=24.0):
    return METRICS[name].measure(Segment.of(frames, fps))[0]


def stripes(frames=8, side=64):
    """Vertical stripes of 0.25 and 0.75, eight pixels wide."""
    row = 0.25 + 0.5 * (torch.arange(side) // 8 % 2)
    return row.expand(frames, 3, side, side).clone()


def test_brightness_and_contrast_are_mean_and_deviation_of_luma():
    assert value("brightness", stripes()) == pytest.approx(0.5)
    assert value("contrast", stripes()) == pytest.approx(0.25)


def test_the_chroma_of_primaries_is_that_of_cielab():
    red, grey = chroma(torch.eye(3)[0].view(1, 3, 1, 1)).flatten(), chroma(torch.full((1, 3, 1, 1), 0.3)).flatten()
    assert red.tolist() == pytest.approx([80.09, 67.20], abs=0.1)
    assert grey.abs().max() < 0.01


def test_sharpness_is_the_steepness_of_edges_per_contrast():
    assert value("sharpness", stripes()) == pytest.approx(0.5 / 0.25, rel=1e-3)
    assert value("sharpness", 0.5 * stripes()) == pytest.approx(0.5 / 0.25, rel=1e-3)
    assert value("sharpness", blur(stripes(), 1.0)) < 1.0


def test_noise_is_its_standard_deviation_per_contrast():
    rng = torch.Generator().manual_seed(0)
    noisy = stripes(side=128) + 0.05 * torch.randn((8, 1, 128, 128), generator=rng)
    assert value("noise", noisy) * value("contrast", noisy) == pytest.approx(0.05, rel=0.1)
    assert value("noise", stripes(side=128)) < 0.02


def test_colour_noise_is_that_beyond_grain_per_contrast():
    rng = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn((8, 3, 128, 128), generator=rng)
    plain, grain = stripes(side=128), stripes(side=128) + noise
    coloured = plain + noise - luma(noise)[:, None]
    assert value("colour_noise", plain) == 0 and value("noise", coloured) < 0.02
    assert value("colour_noise", coloured) * value("contrast", coloured) == pytest.approx(0.05, rel=0.1)
    assert value("colour_noise", grain) * value("contrast", grain) < 0.05 / 20


def test_motion_does_not_depend_on_the_rate_of_a_smooth_video():
    seconds = torch.arange(48) / 24
    wave = lambda times: 0.5 + 0.3 * torch.sin(torch.arange(64) / 5 - times[:, None]).view(len(times), 1, 1, 64)
    fast = wave(seconds).expand(-1, 3, 64, -1)
    assert value("motion", fast[::2], 12.0) == pytest.approx(value("motion", fast), rel=0.05)
    assert value("motion", stripes()) == 0


def test_flicker_is_the_second_difference_of_brightness_per_contrast():
    sign = 1 - 2 * (torch.arange(8) % 2).view(-1, 1, 1, 1)
    assert value("flicker", stripes() + 0.01 * sign) == pytest.approx(0.04 / 0.25, rel=1e-3)
    ramp = stripes() + 0.01 * torch.arange(8).view(-1, 1, 1, 1)
    assert value("flicker", ramp) == pytest.approx(0, abs=1e-5), "a steady change of light is no flicker"


def test_falling_noise_is_blur_and_no_drift_of_noise():
    drift = METRICS["noise"].drift
    assert drift((0.01,), (0.1,)) == 0
    assert drift((0.1,), (0.01,)) == pytest.approx(math.log(0.12 / 0.03))
