"""Solvers: exactness, parity with diffusers' UniPC, and columns that do not move."""

import itertools
import warnings

import pytest
import torch

from longtake.noise import ramp
from longtake.solve import SOLVERS, euler, stochastic, unipc

SHAPE = (1, 2, 3, 4, 4)  # B C F H W


def curve(x, level):
    """A velocity field that is neither linear nor constant."""
    return torch.sin(2 * x) + level * torch.cos(x)


def run(step, levels, x, velocity=curve):
    past = None
    for level, after in itertools.pairwise(levels):
        v = velocity(x, level[None, None, :, None, None].to(x.dtype))
        x, past = step(x, v, level, after, past, lambda to=after, x=x: fresh(x, to))
    return x


def fresh(x, to):
    """Noise that depends, for each frame, on the level it goes to alone."""
    draws = [torch.Generator().manual_seed(round(1e6 * level)) for level in to.tolist()]
    return torch.stack([torch.randn(x[:, :, 0].shape, generator=draw, dtype=x.dtype) for draw in draws], 2)


def same(levels, frames=3):
    return levels[:, None].expand(-1, frames)


@pytest.mark.parametrize(("steps", "shift"), [(5, 1.0), (12, 3.0), (30, 8.0), (200, 8.0)])
def test_unipc_equals_diffusers(steps, shift):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UniPCMultistepScheduler
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
        solver_order=2,
        num_train_timesteps=1000,
    )
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas.double()
    assert torch.allclose(levels, ramp(steps, shift, "diffusers"), atol=1e-6)
    theirs = ours = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    past, scheduler._step_index = None, 0
    for i, (level, after) in enumerate(itertools.pairwise(same(levels))):
        theirs = scheduler.step(curve(theirs, levels[i]), scheduler.timesteps[i], theirs).prev_sample
        ours, past = unipc(ours, curve(ours, levels[i]), level, after, past)
        assert (ours - theirs).norm() / theirs.norm() < 1e-5, i


@pytest.mark.parametrize("name", SOLVERS)
def test_a_column_that_does_not_move_is_untouched_whatever_its_velocity(name):
    levels = same(ramp(6)).clone()
    levels[:, 0], levels[:, 1] = 0.0, 0.3
    x = torch.randn(SHAPE)

    def velocity(x, level):
        v = curve(x, level)
        v[:, :, :2] = torch.nan
        return v

    out = run(SOLVERS[name], levels, x, velocity)
    assert torch.equal(out[:, :, :2], x[:, :, :2])
    assert out.isfinite().all()
    assert not torch.equal(out[:, :, 2], x[:, :, 2])


@pytest.mark.parametrize("name", SOLVERS)
def test_a_frame_in_a_staircase_falls_as_if_alone(name):
    """Each frame keeps its own history: started 2 calls later, it ends where a frame started at once ends."""
    levels = ramp(8, 3.0)
    late = torch.cat([levels[:1].expand(2), levels])
    early = torch.cat([levels, levels[-1:].expand(2)])
    x = torch.randn(SHAPE)
    x[:, :, 1] = x[:, :, 0]
    out = run(SOLVERS[name], torch.stack([early, late, early], 1), x)
    assert torch.allclose(out[:, :, 0], out[:, :, 1], atol=1e-6)
    assert torch.allclose(out[:, :, :1], run(SOLVERS[name], same(levels, 1), x[:, :, :1]), atol=1e-6)


def test_order():
    """Halving the step halves Euler's error, and divides that of UniPC by about four."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = run(euler, same(ramp(6000)), x)
    for step, least in ((euler, 1.7), (unipc, 3.0)):
        errors = [(run(step, same(ramp(n)), x) - exact).norm() for n in (20, 40)]
        assert errors[0] / errors[1] > least


def test_a_known_video_is_reached_exactly():
    """If the velocity points at one video, every solver ends there."""
    video = torch.randn(SHAPE)
    for step in SOLVERS.values():
        out = run(step, same(ramp(7, 5.0)), torch.randn(SHAPE), lambda x, level: (x - video) / level.clamp_min(1e-9))
        assert torch.allclose(out, video, atol=1e-5)


# ---------------------------------------------------------------- with fresh noise
def test_a_stochastic_step_goes_to_the_video_and_back_up():
    """As in the official scheduler: x0 = x - t v, then (1 - t') x0 + t' n."""
    x, v, n = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3))
    level, after = torch.tensor([0.9, 0.5, 0.7]).double(), torch.tensor([0.4, 0.5, 0.0]).double()
    got, memory = stochastic(x, v, level, after, None, lambda: n)
    video = x - level.view(1, 1, 3, 1, 1) * v
    assert torch.allclose(got[:, :, 0], 0.6 * video[:, :, 0] + 0.4 * n[:, :, 0], atol=1e-14)
    assert torch.equal(got[:, :, 1], x[:, :, 1]) and torch.allclose(got[:, :, 2], video[:, :, 2], atol=1e-14)
    assert memory is None
    assert torch.equal(stochastic(x, v, level, torch.zeros(3).double(), None)[0], video)  # the last step draws none
    with pytest.raises(ValueError, match="draws noise at every step"):
        stochastic(x, v, level, after, None)
