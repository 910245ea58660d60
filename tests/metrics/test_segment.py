"""A segment takes frames of every kind the project has, and reduces them alike."""

import numpy as np
import pytest
import torch

from longtake.metrics import METRICS, Segment
from longtake.metrics.segment import luma


def picture(frames=5, height=60, width=80):
    return torch.randint(
        0, 256, (frames, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_reads_bytes_and_floats_alike(name):
    frames = picture()
    kinds = [frames, frames.numpy(), frames.permute(0, 3, 1, 2).float() / 255]
    values = [METRICS[name].measure(Segment.of(kind, 24)) for kind in kinds]
    assert values[1] == values[0] and values[2] == pytest.approx(values[0], rel=1e-5, abs=1e-7)


def test_large_frames_are_reduced_and_small_ones_are_not():
    large, small = Segment.of(picture(2, 480, 832), 24), Segment.of(picture(2, 60, 80), 24)
    assert large.small.shape == (2, 3, 120, 208) and large.centre.shape == (1, 256, 256)
    assert small.small.shape == (2, 3, 60, 80) and small.centre.shape == (1, 60, 80)
    assert torch.allclose(large.luma.mean(), luma(torch.cat(list(large.floats()))).mean(), atol=1e-4)


def test_many_frames_are_converted_a_few_at_a_time():
    segment = Segment.of(picture(40), 24)
    assert [len(part) for part in segment.floats()] == [16, 16, 8]
    assert sum(len(part) for part in segment.floats(4)) == 10


def test_a_shared_value_is_computed_once():
    segment, calls = Segment.of(picture(), 24), []
    count = lambda of: calls.append(of) or len(calls)
    assert [segment.once(count), segment.once(count)] == [1, 1] and calls == [segment]


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), 24),
        (torch.zeros(4, 8, 8, 3), 24),
        (np.zeros((8, 8, 3), np.uint8), 24),
        (torch.zeros(0, 3, 8, 8), 24),
        (torch.zeros(1, 3, 8, 8), 0),
    ],
)
def test_anything_else_is_refused_with_its_shape(frames, fps):
    with pytest.raises(ValueError, match="cannot be measured"):
        Segment.of(frames, fps)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 1, 1), (3, 3, 2, 9)])
def test_a_metric_measures_the_shortest_and_the_smallest_video(name, shape):
    values = METRICS[name].measure(Segment.of(torch.full(shape, 0.5), 24))
    assert METRICS[name].drift(values, values) == 0
