"""The laws that every registered strategy must keep."""

import itertools

import pytest
import torch

from longtake.geometry import frames_of_latents, latents_of_frames
from longtake.models.clock import clock
from longtake.models.gauss import gauss
from longtake.plan import check
from longtake.plans import PLANS, plan

from .worlds import count, is_chunks, limits_for, pixels, variants

CASES = [
    pytest.param(name, stride, options, id=f"{name}-{stride}-{'-'.join(f'{k}={v}' for k, v in options.items())}")
    for name in PLANS
    for stride in (1, 4, 8)
    for options in variants(name, stride)
]


def length(name: str, stride: int, view: int) -> int:
    return frames_of_latents(view, stride) if name == "clip" else 97 + stride


@pytest.mark.parametrize(("name", "stride", "options"), CASES)
def test_windows_are_lawful(name, stride, options):
    limits = limits_for(name, 12)
    frames = length(name, stride, 12)
    clean: set[int] = set()
    done = 0
    for number, window in enumerate(plan(name, steps=6, **options).windows(frames, stride, limits)):
        check(window, limits)
        if window.cut or number == 0:
            clean, done = set(), 0
            if window.cut:
                clean = set(range(latents_of_frames(window.cut.seam, stride)))
        for frame, column, moves, role in zip(window.frames, window.levels.T, window.moves.tolist(), window.role):
            if role == "guide":
                continue
            shown = [f for f, role in zip(window.frames, window.role) if role != "guide"]
            held = set(shown[len(shown) - window.hold :])
            if moves and column[-1] == 0:
                assert frame not in clean or frame >= done, "a frame that was handed over is made again"
                clean.add(frame)
            if not moves and column[0] == 0:
                assert frame in clean, "context that nobody made"
            done = max(done, frame + 1) if frame in clean and frame not in held and frame == done else done
        assert window.text == ("frame" if PLANS[name].planner.__name__ == "Stream" else "window")


@pytest.mark.parametrize(("name", "stride", "options"), CASES)
def test_the_clock_counts(name, stride, options):
    limits = limits_for(name, 12)
    model = clock(stride, view=12, context=limits.context)
    frames = length(name, stride, 12)
    assert count(model, plan(name, steps=6, **options), frames) == list(range(frames))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("frames", [1, 2, 5, 44, 45, 46, 83])
def test_any_number_of_frames_comes_out_exactly(name, frames):
    options = dict(overlap=5) if is_chunks(name) else dict()
    if name == "clip":
        frames = min(frames, 45)
    for block in (0,) if name == "looping" else (1, 2, 3, 4):
        model, blocks = clock(4, view=12, context=limits_for(name, 12).context), dict(block=block) if block else {}
        assert count(model, plan(name, steps=6, **blocks, **options), frames) == list(range(frames)), block


@pytest.mark.parametrize("name", PLANS)
def test_the_gauss_world_keeps_its_statistics(name):
    """Variance within 3 % and lag-1 correlation within 0.02 of an exact AR(1) process, to the end of the video."""
    options = dict(overlap=5) if is_chunks(name) else dict()
    options |= dict(hand="pixels") if name in ("relay", "async") else {}
    options |= dict(context=0.02) if name == "sliding" else {}
    options |= dict(lag=3) if name == "endless" else {}
    options |= dict(strength=1.0) if name == "looping" else {}  # copies at half their noise lose some of the variance
    view, frames = 16, 16 if name == "clip" else 60
    model = gauss(view=view, size=72 if name == "clip" else 40, context=limits_for(name, view).context)
    steps = 32 if name == "blocks" else 40
    video = pixels(model, plan(name, steps=steps, shift=1.0, **options), frames, solver="unipc")
    variance = video.var()
    correlation = (video[:, :, 1:] * video[:, :, :-1]).mean() / variance
    assert abs(variance - 1) < 0.03
    assert abs(correlation - 0.9) < 0.02
    assert abs(video[:, :, -15:].var() - 1) < 0.05


def test_strategies_share_their_noise():
    """Two strategies on one seed begin from the same noise at the same output frame, also after a cut."""
    one = pixels(gauss(view=12, size=8), plan("sliding", steps=4, overlap=3), 40)
    two = pixels(gauss(view=12, size=8), plan("relay", steps=4, overlap=3, hand="latents"), 40)
    assert torch.allclose(one, two, atol=1e-5)


def test_other_seeds_make_other_videos():
    videos = [pixels(gauss(view=12, size=8), plan("sliding", steps=4, overlap=3), 20, seeds=(s,)) for s in (0, 1)]
    both = pixels(gauss(view=12, size=8), plan("sliding", steps=4, overlap=3), 20, seeds=(0, 1))
    assert (videos[0] - videos[1]).abs().max() > 0.5
    assert torch.allclose(torch.cat(videos), both, atol=1e-6)


def test_views_are_within_limits_without_end():
    for name, stride in itertools.product(PLANS, (1, 4)):
        if name == "clip":
            continue
        limits = limits_for(name, 12)
        options = dict(overlap=1 + stride) if is_chunks(name) else {} if name == "looping" else dict(sinks=2)
        endless = plan(name, steps=6, **options).windows(None, stride, limits)
        for window in itertools.islice(endless, 60):
            check(window, limits)
            assert max(window.positions) < 12
