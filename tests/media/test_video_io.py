"""Segments have the same bytes each time, fit together exactly, and show the right colours."""

import io
from fractions import Fraction

import av
import pytest
import torch

from longtake.core.errors import MediaError
from longtake.media import video_io as media
from longtake.media.video_io import Encoding
from longtake.media.video_reader import VideoError, timed_frames

FPS = Fraction(24)


def moving(count: int, height: int = 32, width: int = 48, first: int = 0) -> torch.Tensor:
    """Return smooth frames that change over time, (count, height, width, 3) uint8."""
    t = torch.arange(first, first + count)[:, None, None]
    y, x = torch.arange(height)[:, None], torch.arange(width)
    return torch.stack([(x * 3 + t * 2) % 256 + 0 * y, (y * 4 + t) % 256 + 0 * x, (x + y + t) % 256], -1).to(
        torch.uint8
    )


def segments(count: int, length: int, fps: Fraction = FPS, **shape: int) -> list[media.Encoded]:
    return [media.encode(moving(length, first=i * length, **shape), i * length, fps, i) for i in range(count)]


def test_encoding_again_gives_the_same_bytes():
    assert segments(3, 24) == segments(3, 24)


def test_encoding_does_not_depend_on_torch_threads():
    torch.set_num_threads(2)
    try:
        two = segments(1, 24, height=128, width=128)
    finally:
        torch.set_num_threads(1)
    assert two == segments(1, 24, height=128, width=128)


@pytest.mark.parametrize("fps", [FPS, Fraction(16), Fraction(30000, 1001), Fraction(25, 2)])
def test_init_and_segments_in_a_row_are_a_video_with_exact_times(fps):
    parts = [*segments(4, 12, fps), media.encode(moving(1), 48, fps, 4)]
    assert len({part.init for part in parts}) == 1
    shown = list(timed_frames(parts[0].init + b"".join(part.media for part in parts)))
    assert [time for time, _ in shown] == [n / fps for n in range(49)]


def test_a_segment_alone_has_its_own_time_however_late():
    late = 10**9
    part = media.encode(moving(5), late, FPS, 12345)
    assert [time for time, _ in timed_frames(part.init + part.media)] == [Fraction(late + i, 24) for i in range(5)]


def test_the_joined_video_plays_while_it_loads(tmp_path):
    parts = segments(5, 12)
    for name in ("one.mp4", "two.mp4"):
        media.join(parts[0].init, (part.media for part in parts), tmp_path / name)
    data = (tmp_path / "one.mp4").read_bytes()
    assert data == (tmp_path / "two.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "one.mp4"), "r") as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.average_rate, stream.duration * stream.time_base) == (60, 24, Fraction(60, 24))
    assert [time * 24 for time, _ in timed_frames(tmp_path / "one.mp4")] == list(range(60))


def test_joining_keeps_the_frames(tmp_path):
    parts = segments(2, 6)
    media.join(parts[0].init, [part.media for part in parts], tmp_path / "v.mp4")
    streamed = timed_frames(parts[0].init + parts[0].media + parts[1].media)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(streamed, timed_frames(tmp_path / "v.mp4")))


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 64, 200), (128, 128, 128)]


@pytest.mark.parametrize("size", [(32, 48), (15, 17), (1, 1), (2, 2), (7, 64)])
def test_colours_and_sizes_survive(size):
    frames = torch.tensor(COLOURS, dtype=torch.uint8)[:, None, None].expand(-1, *size, -1)
    part = media.encode(frames, 0, FPS)
    for (_, shown), colour in zip(timed_frames(part.init + part.media), COLOURS, strict=True):
        assert shown.shape == (*size, 3)
        assert (shown.float() - torch.tensor(colour).float()).abs().max() <= 3


def test_files_hold_neither_dates_nor_names():
    part = segments(1, 12)[0]
    with av.open(io.BytesIO(part.init + part.media), "r") as container:
        assert "encoder" not in container.metadata and "creation_time" not in container.metadata
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
    assert b"Lavf" not in part.init + part.media


def test_settings_change_the_bytes_and_are_checked():
    small = media.encode(moving(12), 0, FPS, encoding=Encoding(crf=40))
    assert len(small.media) < len(segments(1, 12)[0].media)
    for wrong in (dict(crf=52), dict(crf=-1), dict(preset="quick")):
        with pytest.raises(MediaError, match=r"crf must be|unknown x264 preset"):
            Encoding(**wrong)


def test_files_that_are_no_video_are_refused(tmp_path):
    for source in (b"", b"nothing" * 50, tmp_path / "missing.mp4"):
        with pytest.raises(VideoError, match="cannot be read as a video"):
            list(timed_frames(source))
    with pytest.raises(MediaError, match=r"v\.mp4 cannot be joined"):
        media.join(segments(1, 2)[0].init, [b"nothing" * 50], tmp_path / "v.mp4")
    with pytest.raises(MediaError, match="at least one frame"):
        media.encode(moving(0), 0, FPS)
