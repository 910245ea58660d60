"""The only loop over model calls: how often it calls, at which sigmas, and what it leaves alone."""

import pytest
import torch

from longtake.core.solvers import SOLVERS
from longtake.engine.denoise import denoise
from longtake.planning.window import Window

ROWS = [[0.0, 1.0, 0.3], [0.0, 0.5, 0.3], [0.0, 0.0, 0.3]]
VIEW = Window([0, 1, 2], torch.tensor(ROWS, dtype=torch.float64))


def run(velocity, solver="euler", window=VIEW, context_noise=lambda x, step: x):
    x = torch.arange(3.0)[None, None, :, None, None].expand(1, 2, 3, 4, 4).clone()
    steps = list(
        denoise(velocity, x, window, SOLVERS[solver], None, context_noise, lambda sigma_next: torch.zeros_like(x))
    )
    return x, [value for value, _ in steps]


def test_a_window_takes_as_many_model_calls_as_it_has_rows_but_one():
    seen = []
    _, steps = run(lambda x, sigma: seen.append(sigma.tolist()) or torch.zeros_like(x))
    assert len(steps) == VIEW.steps == 2 and seen == ROWS[:2]


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_non_finite_velocity_on_a_context_column_changes_nothing(solver):
    def velocity(x, sigma):
        v = torch.ones_like(x)
        v[:, :, [0, 2]] = torch.nan
        return v

    x, steps = run(velocity, solver)
    for after in steps:
        assert torch.equal(after[:, :, [0, 2]], x[:, :, [0, 2]]) and torch.isfinite(after).all()


def test_euler_integrates_the_velocity():
    x, steps = run(lambda x, sigma: torch.full_like(x, 2.0))
    assert torch.allclose(steps[-1][:, :, 1], x[:, :, 1] - 2.0)


def test_context_noise_is_prepared_before_every_step():
    steps = []
    run(lambda x, sigma: torch.zeros_like(x), context_noise=lambda x, step: steps.append(step) or x)
    assert steps == [0, 1]
