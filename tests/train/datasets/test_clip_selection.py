"""Shots are cut into clips of a few shapes: frames at the right times, nothing slowed down, no frame in two clips."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from longtake.data.manifest import PreparedShot
from longtake.data.shots.analysis import Shot
from longtake.data.shots.metrics import ShotMetrics
from longtake.train.datasets.buckets import Bucket, ShotClip, UnfitShot, fitting, make_buckets
from longtake.train.datasets.clip_selection import SLACK, clips_of, resampled, select_clips

METRICS = ShotMetrics(100.0, 100.0, 5.0, 0, "")


def shot(count, fps, gaps=None):
    """A shot of so many frames, evenly_spaced spaced except for some gaps {number of a step: its ticks}; a frame lasts 100 ticks."""
    steps = [[(gaps or {}).get(n, 100), 1] for n in range(count - 1)]
    base = 1 / (Fraction(fps).limit_denominator(1001) * 100)
    seconds = float((sum(ticks for ticks, _ in steps) + 100) * base)
    return Shot(0, count, 7000, steps, str(base), count / seconds, seconds, METRICS)


def kept(count=200, fps=24.0, size=(480, 640), video="a.mp4"):
    return PreparedShot(video, "0" * 64, size, shot(count, fps))


def bucket(frames, height, width):
    return Bucket(frames, height, width, 4, 8)


@pytest.mark.parametrize(("rate", "fps"), [(24, 24), (23.976, 24), (25, 24), (24, 25)])
def test_a_rate_that_is_nearly_right_is_kept_frame_by_frame(rate, fps):
    assert resampled(shot(50, rate), fps) == shot(50, rate).stamps


@pytest.mark.parametrize(("rate", "fps"), [(60, 24), (30, 24), (50, 16), (29.97, 16), (30, 15), (120, 12)])
def test_other_rates_are_resampled_in_time(rate, fps):
    """Every frame is within half a source frame of its time, none is repeated, and the duration stays."""
    source = shot(300, rate)
    stamps = np.array(resampled(source, fps))
    seconds = (stamps - source.first) * float(Fraction(source.base))
    assert np.abs(seconds - np.arange(len(stamps)) / fps).max() <= 0.5 / rate + 1e-9
    assert len(set(stamps)) == len(stamps) == int(source.seconds * fps + 1e-6)
    assert set(stamps) <= set(source.stamps)


def test_a_slow_shot_is_refused_and_a_small_hole_is_not():
    with pytest.raises(UnfitShot, match=r"too slow: 12 frames per second.*at 24, 50% would be repeated"):
        resampled(shot(40, 12), 24)
    with pytest.raises(UnfitShot, match="too slow"):
        resampled(shot(40, 24, {20: 2000}), 24)
    held = resampled(shot(60, 24, {20: 200}), 24)
    assert len(held) - len(set(held)) == 1 and held == sorted(held)
    assert 1 - len(set(held)) / len(held) <= SLACK


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1080, 1920), (480, 832)),  # the largest of its shape
        ((480, 832), (480, 832)),
        ((470, 820), (480, 832)),  # almost as large
        ((400, 700), (240, 416)),
        ((1920, 1080), (416, 240)),
        ((500, 500), (256, 256)),
        ((300, 390), (256, 256)),  # nearest in shape of those that are small enough
    ],
)
def test_a_shot_goes_to_the_nearest_shape_that_is_not_larger(size, wanted):
    grid = [bucket(17, *each) for each in ((240, 416), (480, 832), (416, 240), (256, 256))]
    assert [(found.height, found.width) for found in fitting(size, grid)] == [wanted]


def test_a_shot_that_would_be_enlarged_is_refused():
    with pytest.raises(UnfitShot, match="too small: 193x144"):
        fitting((144, 193), [bucket(17, 256, 256)])


def test_a_shot_is_cut_into_the_longest_clips_that_fit():
    grid = make_buckets([0.7, 2.0, 4.0], [[240, 320], [320, 240]], 4, 8, 24)
    assert sorted({each.frames for each in grid}) == [17, 49, 97]
    source = kept(97 + 49 + 17 + 17 + 9)
    clips = list(clips_of(source, grid, 24))
    assert [clip.bucket.frames for clip in clips] == [97, 49, 17, 17]
    assert [stamp for clip in clips for stamp in clip.stamps] == source.shot.stamps[:-9]
    with pytest.raises(UnfitShot, match="too short for 17 frames at 24"):
        list(clips_of(kept(16), grid, 24))


def test_used_and_rejected_shots_are_counted():
    grid = make_buckets([0.7, 2.0], [[240, 320]], 4, 8, 24)
    found = select_clips(
        [kept(70), kept(20), kept(16), kept(40, 12.0), kept(40, 12.0), kept(99, 24.0, (100, 100))], grid, 24
    )
    assert [clip.bucket.frames for clip in found.clips] == [49, 17, 17] and found.rejected.total() == 4
    lines = "\n".join(found.lines())
    assert "3 clips of 2 shots; 4 shots gave none" in lines and "2  too slow: 12 frames" in lines
    assert "2  17 frames of 320x240, 0% cropped" in lines


def test_the_key_of_a_clip_depends_on_its_pixels_alone():
    source = kept()
    clip = ShotClip(source, tuple(source.shot.stamps[:17]), bucket(17, 240, 320))
    moved = replace(source, video="elsewhere/b.mp4", caption_source="me")
    assert replace(clip, kept=moved).key == clip.key
    others = [
        replace(clip, kept=replace(source, sha256="1" * 64)), replace(clip, stamps=clip.stamps[1:]),
        replace(clip, bucket=bucket(17, 240, 336)),
    ]  # fmt: skip
    assert len({clip.key, *(other.key for other in others)}) == 4
    assert replace(clip, bucket=bucket(17, 240, 240)).cropped == pytest.approx(0.25)
