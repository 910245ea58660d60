"""The sound of a video that is continued is kept: copied where MP4 holds its codec, else encoded, and silent after it."""

from fractions import Fraction

import av
import numpy as np
import pytest

from longtake.core.process.notices import InputWarning
from longtake.media import video_io
from longtake.media.sound import Tracks, tracks_of, write_sound
from tests.media.odd_videos import corners
from tests.media.test_video_io import segments

RATE = 48000


def with_sound(path, codec="aac", seconds=2.0, late=0.0, tracks=1, video="libx264"):
    """A video of two seconds with a beep in every half second. late: seconds by which the picture starts after the sound."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(video, 24, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        sounds = [file.add_stream(codec, rate=RATE, layout="mono") for _ in range(tracks)]
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(corners(32, 48), "rgb24")
            frame.pts, frame.time_base = number + round(24 * late), Fraction(1, 24)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        time = np.arange(round(seconds * RATE)) / RATE
        wave = (np.sin(2 * np.pi * 440 * time) * np.where(time % 0.5 < 0.25, 0.5, 0)).astype(np.float32)
        for sound in sounds:
            kind = sound.codec_context.format.name
            for first in range(0, len(wave), 1024):
                piece = wave[None, first : first + 1024]
                piece = (piece * 32767).astype(np.int16) if kind.startswith("s16") else piece
                frame = av.AudioFrame.from_ndarray(piece, format=kind, layout="mono")
                frame.rate, frame.pts, frame.time_base = RATE, first, Fraction(1, RATE)
                file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    return path


def heard(path):
    """The loudness of every quarter of a second of a sound, with its start, and the codec."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        wave = np.zeros(RATE * 10, np.float32)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for frame in file.decode(stream):
            for piece in resampler.resample(frame):
                first = round(piece.pts * piece.time_base * RATE)
                samples = piece.to_ndarray()[0]
                samples, first = samples[max(0, -first) :], max(0, first)
                wave[first : first + len(samples)] = samples
        return np.sqrt((wave.reshape(-1, RATE // 4) ** 2).mean(1)), stream.codec_context.name


def joined(tmp_path, sound):
    parts = segments(5, 24)
    video_io.join(parts[0].init, [part.media for part in parts], tmp_path / "out.mp4", sound)
    return tmp_path / "out.mp4"


@pytest.mark.parametrize(
    ("name", "codec", "shown"),
    [("a.mp4", "aac", "aac"), ("a.mkv", "flac", "flac"), ("a.ts", "aac", "aac"), ("a.mov", "pcm_s16le", "aac"),
     ("a.mkv", "ac3", "ac3"), ("a.avi", "pcm_s16le", "aac")],
)  # fmt: skip
def test_the_sound_is_kept_and_the_new_part_is_silent(tmp_path, name, codec, shown):
    source = with_sound(tmp_path / name, codec)
    assert write_sound(source, Fraction(2), tmp_path / "track.mp4")
    out = joined(tmp_path, tmp_path / "track.mp4")
    loudness, kind = heard(out)
    assert kind == shown
    assert (loudness[0:8:2] > 0.25).all() and (loudness[1:8:2] < 0.1).all() and (loudness[9:] < 0.01).all()
    with av.open(str(out)) as file:
        frames = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    assert frames == [Fraction(n, 24) for n in range(120)], "the frames keep their times"


def test_equal_inputs_give_equal_files(tmp_path):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_sound(source, Fraction(2), tmp_path / name / "track.mp4")
        joined(tmp_path / name, tmp_path / name / "track.mp4")
    assert (tmp_path / "one" / "out.mp4").read_bytes() == (tmp_path / "two" / "out.mp4").read_bytes()


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_late_picture_and_a_longer_sound_keep_their_places(tmp_path, codec):
    """The picture starts half a second after the sound, which ends a second after it."""
    source = with_sound(tmp_path / "a.mkv", codec, seconds=3.5, late=0.5)
    assert write_sound(source, Fraction(2), tmp_path / "track.mp4")
    loudness, _ = heard(tmp_path / "track.mp4")
    assert (loudness[0:8:2] > 0.25).all() and (loudness[1:8:2] < 0.12).all() and (loudness[9:] < 0.01).all()


def test_videos_without_sound_or_with_more_than_one(tmp_path):
    assert tracks_of(with_sound(tmp_path / "two.mkv", tracks=2)) == Tracks(2, 0)
    silent = with_sound(tmp_path / "none.mp4", tracks=0)
    assert tracks_of(silent) == Tracks() and not write_sound(silent, Fraction(2), tmp_path / "track.mp4")


def test_a_sound_that_cannot_be_read_is_left_out_and_said(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.warns(InputWarning, match="cannot be read, so the video is silent"):
        assert not write_sound(tmp_path / "a.mp4", Fraction(2), tmp_path / "track.mp4")
