"""Solvers: exactness, parity with diffusers' UniPC, and columns that do not move."""

import itertools
import warnings

import pytest
import torch

from longtake.core.sigmas import sigma_schedule
from longtake.core.solvers import SOLVERS, euler, stochastic, unipc

SHAPE = (1, 2, 3, 4, 4)  # B C F H W


def curve(x, sigma):
    """A velocity field that is neither linear nor constant."""
    return torch.sin(2 * x) + sigma * torch.cos(x)


def run(step, sigmas, x, velocity=curve):
    past = None
    for sigma, after in itertools.pairwise(sigmas):
        v = velocity(x, sigma[None, None, :, None, None].to(x.dtype))
        x, past = step(x, v, sigma, after, past, lambda to=after, x=x: fresh(x, to))
    return x


def fresh(x, to):
    """Noise that depends, for each frame, on the level it goes to alone."""
    draws = [torch.Generator().manual_seed(round(1e6 * sigma)) for sigma in to.tolist()]
    return torch.stack([torch.randn(x[:, :, 0].shape, generator=draw, dtype=x.dtype) for draw in draws], 2)


def same(sigmas, frames=3):
    return sigmas[:, None].expand(-1, frames)


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
    sigmas = scheduler.sigmas.double()
    assert torch.allclose(sigmas, sigma_schedule(steps, shift, "diffusers"), atol=1e-6)
    theirs = ours = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    past, scheduler._step_index = None, 0
    for i, (sigma, after) in enumerate(itertools.pairwise(same(sigmas))):
        theirs = scheduler.step(curve(theirs, sigmas[i]), scheduler.timesteps[i], theirs).prev_sample
        ours, past = unipc(ours, curve(ours, sigmas[i]), sigma, after, past)
        assert (ours - theirs).norm() / theirs.norm() < 1e-5, i


@pytest.mark.parametrize("name", SOLVERS)
def test_a_column_that_does_not_move_is_untouched_whatever_its_velocity(name):
    sigmas = same(sigma_schedule(6)).clone()
    sigmas[:, 0], sigmas[:, 1] = 0.0, 0.3
    x = torch.randn(SHAPE)

    def velocity(x, sigma):
        v = curve(x, sigma)
        v[:, :, :2] = torch.nan
        return v

    out = run(SOLVERS[name], sigmas, x, velocity)
    assert torch.equal(out[:, :, :2], x[:, :, :2])
    assert out.isfinite().all()
    assert not torch.equal(out[:, :, 2], x[:, :, 2])


@pytest.mark.parametrize("name", SOLVERS)
def test_a_frame_in_a_staircase_falls_as_if_alone(name):
    """Each frame keeps its own history: started 2 calls later, it ends where a frame started at once ends."""
    sigmas = sigma_schedule(8, 3.0)
    late = torch.cat([sigmas[:1].expand(2), sigmas])
    early = torch.cat([sigmas, sigmas[-1:].expand(2)])
    x = torch.randn(SHAPE)
    x[:, :, 1] = x[:, :, 0]
    out = run(SOLVERS[name], torch.stack([early, late, early], 1), x)
    assert torch.allclose(out[:, :, 0], out[:, :, 1], atol=1e-6)
    assert torch.allclose(out[:, :, :1], run(SOLVERS[name], same(sigmas, 1), x[:, :, :1]), atol=1e-6)


def test_order():
    """Halving the step halves Euler's error, and divides that of UniPC by about four."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = run(euler, same(sigma_schedule(6000)), x)
    for step, least in ((euler, 1.7), (unipc, 3.0)):
        errors = [(run(step, same(sigma_schedule(n)), x) - exact).norm() for n in (20, 40)]
        assert errors[0] / errors[1] > least


def test_a_known_video_is_reached_exactly():
    """If the velocity points at one video, every solver ends there."""
    video = torch.randn(SHAPE)
    for step in SOLVERS.values():
        out = run(
            step, same(sigma_schedule(7, 5.0)), torch.randn(SHAPE), lambda x, sigma: (x - video) / sigma.clamp_min(1e-9)
        )
        assert torch.allclose(out, video, atol=1e-5)


# ---------------------------------------------------------------- with fresh noise
def test_a_stochastic_step_goes_to_the_video_and_back_up():
    """As in the official scheduler: x0 = x - t v, then (1 - t') x0 + t' n."""
    x, v, n = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3))
    sigma, after = torch.tensor([0.9, 0.5, 0.7]).double(), torch.tensor([0.4, 0.5, 0.0]).double()
    got, memory = stochastic(x, v, sigma, after, None, lambda: n)
    video = x - sigma.view(1, 1, 3, 1, 1) * v
    assert torch.allclose(got[:, :, 0], 0.6 * video[:, :, 0] + 0.4 * n[:, :, 0], atol=1e-14)
    assert torch.equal(got[:, :, 1], x[:, :, 1]) and torch.allclose(got[:, :, 2], video[:, :, 2], atol=1e-14)
    assert memory is None
    assert torch.equal(stochastic(x, v, sigma, torch.zeros(3).double(), None)[0], video)  # the last step draws none
    with pytest.raises(ValueError, match="draws noise at every step"):
        stochastic(x, v, sigma, after, None)
