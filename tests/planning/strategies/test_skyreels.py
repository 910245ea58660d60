"""ar_step and causal_block_size against the published timestep matrix, cell for cell."""

import itertools

import pytest
import torch

from longtake.core.geometry import frames_of_latents
from longtake.core.sigmas import sigma_schedule
from longtake.planning.limits import Limits
from longtake.planning.strategies.registry import make_plan

from .skyreels_matrix import matrix

SETTINGS = [
    (latents, block, steps, lag)
    for latents, block in itertools.product((4, 5, 6, 8, 12, 15, 20, 24, 25, 30), (1, 2, 3, 4, 5))
    if latents % block == 0
    for steps, lag in itertools.product((1, 2, 5, 7, 10, 30), (0, 1, 2, 5, 10))
]


def stand(index: list[list[int]], sigmas: torch.Tensor) -> torch.Tensor:
    """The level that each published step number stands for: not started and step 1 are both the first level."""
    table = torch.cat([sigmas[:1], sigmas[:-1], torch.zeros(1, dtype=sigmas.dtype)])
    return table[torch.tensor(index)]


def async_window(latents: int, block: int, steps: int, lag: int, overlap: int = 0, index: int = 0):
    """Window `index` of a long async plan whose windows hold `latents` frames."""
    frames = frames_of_latents(latents, 4)
    options = dict(
        window=frames,
        overlap=frames_of_latents(overlap, 4),
        ar_step=lag,
        causal_block_size=block,
        steps=steps,
        shift=8.0,
    )
    windows = make_plan("async", sigma_spacing="skyreels", **options).windows(
        None, 4, Limits(max_latent_frames=latents)
    )
    return next(itertools.islice(windows, index, None))


def test_enough_settings():
    assert len(SETTINGS) >= 500


def test_first_window_equals_the_published_matrix_in_every_setting():
    for latents, block, steps, lag in SETTINGS:
        window = async_window(latents, block, steps, lag)
        index, update, _ = matrix(latents, steps, lag, latents, 0, block)
        sigmas = sigma_schedule(steps, 8.0, "skyreels")
        where = (latents, block, steps, lag)
        assert torch.equal(window.sigmas[:-1], stand(index, sigmas)), where
        assert torch.equal(window.sigmas[:-1] != window.sigmas[1:], torch.tensor(update)), where
        assert (window.sigmas[-1] == 0).all(), where


def test_later_windows_equal_the_published_matrix_with_ready_frames():
    settings = [s for s in SETTINGS if s[0] // s[1] >= 2]
    for latents, block, steps, lag in settings:
        window = async_window(latents, block, steps, lag, overlap=block, index=1)
        index, update, _ = matrix(latents, steps, lag, latents, block, block)
        where = (latents, block, steps, lag)
        assert torch.equal(window.sigmas[:-1], stand(index, sigma_schedule(steps, 8.0, "skyreels"))), where
        assert torch.equal(window.sigmas[:-1] != window.sigmas[1:], torch.tensor(update)), where


def test_sliding_view_equals_the_published_intervals():
    checked = 0
    for latents, base, block, steps, lag in itertools.product(
        (12, 20, 30), (4, 6, 8, 10), (1, 2), (5, 8), (1, 2, 3, 4, 5)
    ):
        if latents <= base or latents % block or base % block or lag < steps / (base // block):
            continue
        index, update, interval = matrix(latents, steps, lag, base, 0, block)
        options = dict(
            steps=steps,
            shift=8.0,
            sigma_spacing="skyreels",
            ar_step=lag,
            causal_block_size=block,
            window=frames_of_latents(base, 4),
        )
        windows = make_plan("continuous", **options).windows(
            frames_of_latents(latents, 4), 4, Limits(max_latent_frames=base)
        )
        seen = [
            (window.frames[0], window.frames[-1] + 1, row, after)
            for window in windows
            for row, after in itertools.pairwise(window.sigmas)
        ]
        published = stand(index, sigma_schedule(steps, 8.0, "skyreels"))
        assert [(a, b) for a, b, _, _ in seen] == interval, (latents, base, block, steps, lag)
        for (a, b, row, after), stood, moved in zip(seen, published, update):
            assert torch.equal(row, stood[a:b])
            assert torch.equal(row != after, torch.tensor(moved[a:b]))
        checked += 1
    assert checked >= 100


def test_the_readme_command_of_skyreels():
    windows = list(
        make_plan("async", steps=30, causal_block_size=5, ar_step=5).windows(737, 4, Limits(max_latent_frames=25))
    )
    assert [w.steps for w in windows] == [50] + [45] * 8
    assert [(w.frames[0], w.frames[-1]) for w in windows][:2] == [(0, 24), (20, 44)]


@pytest.mark.parametrize(("frames", "windows"), [(97, 1), (257, 3), (250, 3), (377, 5), (737, 9), (1457, 18)])
def test_windows_of_published_lengths(frames, windows):
    assert len(list(make_plan("sliding").windows(frames, 4, Limits(max_latent_frames=25)))) == windows
