"""Frames are counted exactly, found again by their timestamps, and turned upright."""

import numpy as np
import pytest

from longtake.media.video_reader import VideoError, VideoReader, short_side
from tests.data.clips import moving, real, texture, write

FRAMES = {"bikes.mp4": (250, (272, 640)), "carphone_pristine.mp4": (120, (144, 193))}


@pytest.mark.parametrize("name", FRAMES)
def test_seeking_gives_the_same_frames_as_reading_from_the_start(name):
    count, size = FRAMES[name]
    with VideoReader(real(name)) as video:
        frames = [(frame.stamp, frame.picture) for frame in video.frames(short_side(48), exact=True)]
        assert video.stream.size == size
    assert len(frames) == count
    wanted = frames[count // 2 : count : 17]
    with VideoReader(real(name)) as video:
        found = list(video.at([stamp for stamp, _ in wanted], short_side(48)))
    assert all(np.array_equal(a, b) for a, (_, b) in zip(found, wanted, strict=True))


def test_an_unknown_timestamp_is_refused(tmp_path):
    write(tmp_path / "a.mp4", moving(count=8))
    with VideoReader(tmp_path / "a.mp4") as video, pytest.raises(VideoError, match="prepare the folder again"):
        list(video.at([1]))


def test_a_rotated_phone_clip_is_turned_upright(tmp_path):
    """The matrix of the track header rotates the frames by 90 degrees clockwise, as phones write it."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:30] = 255  # a white bar, stored at the top and shown at the right
    write(tmp_path / "flat.mp4", [picture] * 4)
    data = bytearray((tmp_path / "flat.mp4").read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    one, turned = 1 << 16, [0, 1 << 16, 0, (1 << 32) - (1 << 16), 0, 0, 120 << 16, 0, 1 << 30]
    assert data[place : place + 4] == one.to_bytes(4, "big")
    data[place : place + 36] = b"".join(number.to_bytes(4, "big") for number in turned)
    (tmp_path / "turned.mp4").write_bytes(data)
    with VideoReader(tmp_path / "turned.mp4") as video:
        shown = next(video.frames()).picture
        assert video.stream.size == shown.shape[:2] == (160, 120)
    assert shown[:, -20:].mean() > 240 and shown[:, :80].mean() < 15


def test_frames_are_never_enlarged(tmp_path):
    write(tmp_path / "a.mp4", [texture(0)] * 2)
    with VideoReader(tmp_path / "a.mp4") as video:
        assert next(video.frames(short_side(96))).picture.shape == (96, 128, 3)
    with VideoReader(tmp_path / "a.mp4") as video:
        assert next(video.frames(short_side(1000))).picture.shape == (240, 320, 3)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 5000])
def test_files_that_are_no_video_are_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        VideoReader(tmp_path / "a.mp4")
