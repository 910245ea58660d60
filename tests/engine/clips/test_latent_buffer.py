"""The latent buffer: what enters a window as noise, as context or re-noised, and what is final after it."""

import pytest
import torch

from longtake.engine.clips.latent_buffer import LatentBuffer, LatentFrame
from longtake.planning.window import Window

SHAPE = (1, 2, 3, 3)


def value(number: float) -> torch.Tensor:
    return torch.full(SHAPE, float(number))


def ones(purpose, frames, step):
    """Noise that names its purpose: 1 for new frames, else 10, and 100 more at every step."""
    return torch.full((1, 2, len(frames), 3, 3), (1.0 if purpose == "start" else 10.0) + 100.0 * step)


def window(frames, *rows, **options) -> Window:
    return Window(frames, torch.tensor(rows, dtype=torch.float64), **options)


def test_a_new_frame_is_noise_and_clean_context_is_left_alone():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    x, state = buffer.gather(window([0, 1], [0, 1], [0, 0]), ones)
    assert state is None and torch.equal(x[:, :, 0], value(5)) and torch.equal(x[:, :, 1], value(1))


def test_context_noise_is_added_once_and_the_clean_frame_is_kept():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    view = window([0, 1], [0.5, 1], [0.5, 0])
    x, _ = buffer.gather(view, ones)
    assert torch.allclose(x[:, :, 0], value(0.5 * 5 + 0.5 * 10))
    final = buffer.store(view, torch.zeros_like(x), None)
    assert torch.equal(final[0], value(5)) and torch.equal(final[1], value(0)) and list(final) == [0, 1]


def test_resampled_context_noise_changes_at_every_step_but_the_first():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    view = window([0, 1], [0.5, 1], [0.5, 0.5], [0.5, 0], context_noise_mode="resampled")
    x, _ = buffer.gather(view, ones)
    assert torch.equal(buffer.with_context_noise(x, view, 0, ones), x)
    later = buffer.with_context_noise(x, view, 1, ones)
    assert torch.allclose(later[:, :, 0], value(0.5 * 5 + 0.5 * 110)) and torch.equal(later[:, :, 1], x[:, :, 1])


def test_frozen_context_noise_stays():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    view = window([0, 1], [0.5, 1], [0.5, 0.5], [0.5, 0])
    x, _ = buffer.gather(view, ones)
    assert torch.equal(buffer.with_context_noise(x, view, 1, ones), x)


def test_cond_noise_is_added_to_clean_context_at_every_step():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    view = window([0, 1], [0, 1], [0, 0.5], [0, 0], image_cond_noise_scale=0.1)
    x, _ = buffer.gather(view, ones)
    for step, sigma in enumerate((1.0, 0.5)):
        noisy = buffer.with_context_noise(x, view, step, ones)
        assert torch.allclose(noisy[:, :, 0], value(5 + 0.1 * sigma**2 * (10 + 100 * step)))
        assert torch.equal(noisy[:, :, 1], x[:, :, 1])


def test_a_frame_concatenated_by_channel_starts_as_noise_though_it_is_known():
    buffer = LatentBuffer()
    buffer.put({0: value(5)})
    x, _ = buffer.gather(window([0], [1], [0], role=["concat"]), ones)
    assert torch.equal(x[:, :, 0], value(1))


def test_a_plan_may_not_lower_a_sigma_without_a_step():
    buffer = LatentBuffer({0: LatentFrame(value(5), 0.8)})
    with pytest.raises(AssertionError, match="lower a sigma"):
        buffer.gather(window([0], [0.5], [0]), ones)


def test_solver_state_leaves_and_comes_back_with_its_frame():
    buffer, view = LatentBuffer(), window([0, 1], [1, 1], [0.5, 0.5])
    x, _ = buffer.gather(view, ones)
    buffer.store(view, x, {"before": x + 7, "count": torch.tensor([1.0, 2.0])})
    _, state = buffer.gather(window([1, 2], [0.5, 1], [0, 0.5]), ones)
    assert torch.equal(state["before"][:, :, 0], x[:, :, 1] + 7) and not state["before"][:, :, 1].any()
    assert state["count"].tolist() == [2.0, 0.0]
    _, state = buffer.gather(window([1], [0.7], [0]), ones)
    assert state is None, "a re-noised frame has no history"


def test_frames_are_final_in_order_once_no_window_revises_them():
    buffer, view = LatentBuffer(), window([0, 1, 2], [1, 1, 1], [0, 0, 0.5], revisable=1)
    x, _ = buffer.gather(view, ones)
    assert list(buffer.store(view, x, None)) == [0, 1] and sorted(buffer.frames) == [0, 1, 2]
    view = window([1, 2, 3], [0, 0.5, 1], [0, 0, 0], revisable=2)
    x, _ = buffer.gather(view, ones)
    assert list(buffer.store(view, x, None)) == [] and sorted(buffer.frames) == [1, 2, 3]
    assert list(buffer.remaining()) == [2, 3] and buffer.done == 4


def test_the_end_of_a_clip_leaves_nothing_revisable():
    buffer, view = LatentBuffer(), window([0, 1], [1, 1], [0, 0], revisable=2)
    x, _ = buffer.gather(view, ones)
    assert list(buffer.store(view, x, None, ends_clip=True)) == [0, 1] and not buffer.remaining()


def test_keyframes_are_seen_and_never_final():
    buffer, view = LatentBuffer(), window([0, 1], [1, 0], [0, 0], role=["generate", "keyframe"])
    buffer.put({1: value(9)})
    x, _ = buffer.gather(view, ones)
    assert list(buffer.store(view, x, None)) == [0] and list(buffer.frames) == [0]


def test_a_frame_generated_again_is_blended_with_its_old_version():
    buffer = LatentBuffer()
    buffer.put({0: value(4)})
    view = window([0], [0.5], [0], blend=torch.tensor([0.25]))
    buffer.store(view, torch.full((1, 2, 1, 3, 3), 8.0), None)
    assert torch.allclose(buffer.frames[0].value, value(5))


def test_a_restored_buffer_equals_the_saved_one():
    buffer, view = LatentBuffer(), window([3, 4], [1, 1], [0.5, 0])
    x, _ = buffer.gather(view, ones)
    buffer.store(view, x, {"one": x, "count": torch.tensor([1.0, 2.0])})
    again = LatentBuffer()
    again.load(*buffer.state())
    assert again.done == buffer.done and list(again.frames) == [3, 4]
    assert [frame.sigma for frame in again.frames.values()] == [0.5, 0.0]
    assert torch.equal(again.frames[3].solver_state["one"], x[:, :, 0]) and again.frames[4].solver_state is None
