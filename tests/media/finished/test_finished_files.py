"""Finished files: each kind holds what its name says, with sound of the right length, and pictures are copied where they can be."""

import math
import struct
import wave

import av
import numpy as np
import pytest

from longtake.core.errors import MediaError, SettingsError
from longtake.media.finished.copy_video import copy_video
from longtake.media.finished.file_kinds import CONTAINERS, check_file, codec_of
from longtake.media.finished.save_video import save_video
from longtake.media.finished.sound_encoder import sound_seconds
from longtake.media.metadata import COMMENT, read_tags


@pytest.fixture
def frames():
    return [np.full((32, 48, 3), 8 * n, np.uint8) for n in range(24)]


@pytest.fixture
def sound(tmp_path):
    """A file of three seconds of sound."""
    with wave.open(str(tmp_path / "tone.wav"), "w") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", int(8000 * math.sin(i / 3))) for i in range(24000)))
    return tmp_path / "tone.wav"


def packets(path):
    """The encoded pictures of a file."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def length_of_sound(path):
    with av.open(str(path)) as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


@pytest.mark.parametrize("ending", CONTAINERS)
def test_every_container_holds_the_sound_up_to_the_length_of_its_pictures(tmp_path, frames, sound, ending):
    path = save_video(tmp_path / f"x{ending}", frames, 24.0, audio=sound)
    with av.open(str(path)) as file:
        assert len(list(file.decode(video=0))) == 24
    assert length_of_sound(path) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_pictures_and_settings_are_copied_as_they_are(tmp_path, frames, sound, ending):
    source = save_video(tmp_path / "x.mp4", frames, 24.0, comment="settings")
    for audio in (None, sound):
        path = tmp_path / f"y{ending}"
        copy_video(source, path, audio)
        assert packets(path) == packets(source) and read_tags(path)[COMMENT] == "settings"
    assert length_of_sound(path) == pytest.approx(1.0, abs=0.05)
    copy_video(path, tmp_path / f"z{ending}")  # its own sound stays
    assert length_of_sound(tmp_path / f"z{ending}") == pytest.approx(1.0, abs=0.05)


def test_what_cannot_be_copied_is_said(tmp_path, sound):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(MediaError, match="cannot be"):
        copy_video(tmp_path / "x.mp4", tmp_path / "y.mp4")


def test_the_length_of_a_sound_is_read(tmp_path, frames, sound):
    assert sound_seconds(sound) == pytest.approx(3.0)
    with pytest.raises(SettingsError, match="no such file"):
        sound_seconds(tmp_path / "none.wav")
    with pytest.raises(SettingsError, match="has no sound"):
        sound_seconds(save_video(tmp_path / "x.mp4", frames, 24.0))
    (tmp_path / "x.wav").write_text("no sound")
    with pytest.raises(MediaError, match="cannot be read as sound"):
        sound_seconds(tmp_path / "x.wav")


def test_kinds_say_what_they_hold(tmp_path):
    assert codec_of(tmp_path / "x.webm", "h264") == "av1" and codec_of(tmp_path / "x.mp4", "h264") == "h264"
    for name, codec, crf, sound, words in (
        ("x.avi", "h264", None, False, "ends with .mp4"),
        ("x.mp4", "vp9", None, False, "codec must be one of"),
        ("x.webm", "hevc", None, False, "no HEVC"),
        ("x.mp4", "h264", 52, False, "between 0 and 51"),
        ("x.webp", "h264", None, True, "no sound"),
    ):
        with pytest.raises(SettingsError, match=words):
            check_file(tmp_path / name, codec, crf, sound=sound)
