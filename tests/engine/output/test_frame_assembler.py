"""Frames of clip after clip become one video: each frame once, trimmed, with overlaps dropped, withheld or cross-faded."""

from itertools import pairwise

import pytest
import torch

from longtake.engine.output.frame_assembler import FrameAssembler, Frames, to_uint8
from longtake.planning.window import Cut


def frames(*values: float) -> torch.Tensor:
    """One-pixel frames (1 3 T 1 1) of these brightnesses."""
    return torch.tensor(values, dtype=torch.float32)[None, None, :, None, None].expand(1, 3, -1, 1, 1)


def values(events) -> list[float]:
    events = list(events)
    for before, after in pairwise(events):
        assert after.first == before.first + before.video.shape[2]
    return [round(v, 4) for event in events for v in event.video[0, 0, :, 0, 0].tolist()]


def test_frames_pass_in_order():
    out = FrameAssembler()
    assert values([*out.push(frames(1, 2)), *out.push(frames(3))]) == [1, 2, 3] and out.shown == 3
    assert not list(out.push(frames()))


def test_the_end_of_a_shot_is_trimmed():
    out = FrameAssembler(end=3)
    assert values([*out.push(frames(1, 2)), *out.push(frames(3, 4, 5))]) == [1, 2, 3]


def test_frames_before_the_start_of_an_extended_video_are_dropped():
    out = FrameAssembler(next_frame=-2)
    (event,) = out.push(frames(8, 9, 1, 2))
    assert event.first == 0 and values([event]) == [1, 2]


def test_the_old_version_of_an_overlap_is_kept():
    out = FrameAssembler(tail_length=2)
    shown = [*out.push(frames(1, 2, 3))]
    assert out.cut(Cut(2)) == 1
    shown += out.push(frames(20, 30, 4))
    assert values(shown) == [1, 2, 3, 4]


def test_the_new_version_of_an_overlap_takes_the_place_of_what_was_withheld():
    out = FrameAssembler(tail_length=2, withhold_from=1)
    shown = [*out.push(frames(1, 2, 3))]
    assert values(shown) == [1]
    assert out.cut(Cut(2, overlap_source="new")) == 1
    shown += out.push(frames(20, 30, 4))
    assert values(shown) == [1, 20, 30, 4]


def test_an_overlap_is_cross_faded_linearly_also_in_pieces():
    for pieces in ([(20.0, 30.0, 4.0)], [(20.0,), (30.0, 4.0)]):
        out = FrameAssembler(tail_length=2, withhold_from=1)
        shown = [*out.push(frames(1, 2, 3))]
        out.cut(Cut(2, overlap_source="blend"))
        for piece in pieces:
            shown += out.push(frames(*piece))
        assert values(shown) == [1, 2 + 18 / 3, 3 + 27 * 2 / 3, 4]
        assert out.crossfade is None


def test_withheld_frames_are_shown_when_no_clip_follows():
    out = FrameAssembler(withhold_from=1)
    shown = [*out.push(frames(1, 2, 3)), *out.release()]
    assert values(shown) == [1, 2, 3] and not list(out.release())


def test_a_new_shot_starts_after_what_was_shown_and_forgets_the_tail():
    out = FrameAssembler(tail_length=2, end=2)
    list(out.push(frames(1, 2, 3, 4)))
    assert out.cut(Cut(0)) == 2 and out.tail is None


def test_the_tail_is_as_long_as_the_largest_overlap_whatever_the_pieces():
    out = FrameAssembler(tail_length=3)
    for piece in (frames(1), frames(2, 3), frames(4), frames(5)):
        list(out.push(piece))
    assert out.tail[0, 0, :, 0, 0].tolist() == [3, 4, 5]
    list(out.push(frames(6, 7, 8, 9)))
    assert out.tail[0, 0, :, 0, 0].tolist() == [7, 8, 9]


@pytest.mark.parametrize("handoff", ["pixels", "pixels-uint8", "pixels-floor8"])
def test_an_overlap_is_handed_over_clamped_and_quantised(handoff):
    out = FrameAssembler(tail_length=2)
    list(out.push(frames(0.0, 0.1234, 1.5)))
    first, last = out.overlap(Cut(2, handoff))[0, 0, :, 0, 0].tolist()
    grey = (0.1234 + 1) * 127.5
    want = {"pixels": 0.1234, "pixels-uint8": round(grey) / 127.5 - 1, "pixels-floor8": int(grey) / 127.5 - 1}[handoff]
    assert first == pytest.approx(want, abs=1e-6) and last == 1.0


def test_an_overlap_longer_than_the_tail_is_an_error():
    with pytest.raises(AssertionError, match="needs 2 frames"):
        FrameAssembler(tail_length=2).overlap(Cut(2))


def test_a_restored_assembler_continues_a_cross_fade():
    out = FrameAssembler(tail_length=2, withhold_from=1)
    list(out.push(frames(1, 2, 3)))
    out.cut(Cut(2, overlap_source="blend"))
    list(out.push(frames(20)))
    again = FrameAssembler(tail_length=2)
    again.load(*out.state())
    assert values(again.push(frames(30, 4))) == values(out.push(frames(30, 4)))


def test_uint8_is_rounded_to_nearest_and_clamped():
    video = torch.tensor([-2.0, -1.0, 0.0, 0.999, 3.0])[None, None, :, None, None].expand(1, 3, -1, 1, 1)
    assert to_uint8(video)[0, 0, :, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert Frames(0, video).frames.shape == (1, 5, 1, 1, 3)
