"""Control signals are read from tables and sounds, one row for each output frame."""

import os
import struct
import wave

import numpy as np
import pytest

from longtake.core.errors import InputError
from longtake.media.control_signal import read_control
from tests.data.clips import moving, write


def test_a_table_has_a_row_for_each_frame(tmp_path):
    (tmp_path / "pose.csv").write_text("# x, y\n0.5,-1\n0.25,2\n")
    assert read_control(tmp_path / "pose.csv", 24).tolist() == [[0.5, -1.0], [0.25, 2.0]]


def test_a_sound_becomes_the_loudness_of_each_frame(tmp_path):
    time = np.arange(24000) / 8000
    beeps = (np.sin(2 * np.pi * 440 * time) * np.where(time % 1 < 0.5, 12000, 0)).astype("<i2")
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 8000, len(beeps), "NONE", ""))
        file.writeframes(beeps.tobytes())
    loudness = read_control(tmp_path / "voice.wav", 16)
    assert loudness.shape == (48, 1) and float(loudness.max()) == 1
    assert loudness[1:7].min() > 0.9 and loudness[9:15].max() < 0.05 and loudness[33:39].min() > 0.9


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words.csv", "not a table with a row of numbers"),
        ("noise.wav", "cannot be read as a sound"),
        ("missing.csv", "there is no control signal .*missing.csv"),
        ("nan.csv", r"nan\.csv: the row of frame 1 holds NaN or infinity"),
        ("inf.csv", r"inf\.csv: the row of frame 0 holds NaN or infinity"),
    ],
)
def test_other_files_are_refused(tmp_path, name, words):
    (tmp_path / "words.csv").write_text("a,b\n")
    (tmp_path / "nan.csv").write_text("1,2\n0,nan\n")
    (tmp_path / "inf.csv").write_text("1e39,2\n")
    (tmp_path / "noise.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match=words):
        read_control(tmp_path / name, 24)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.5\nnan\n", "frame 1 holds NaN"),
        ("1\n1e99\n", "frame 1 holds"),
        ("", "is empty"),
        ("# a\n", "is empty"),
    ],
)
def test_tables_without_finite_numbers_are_refused(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_control(tmp_path / "a.csv", 24)


def test_a_table_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("0.5,1\n", encoding="utf-8-sig")
    assert read_control(tmp_path / "a.csv", 24).tolist() == [[0.5, 1.0]]


def test_pipes_videos_without_sound_and_sounds_with_nan_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match="a pipe or a device"):
        read_control(tmp_path / "a.csv", 24)
    with pytest.raises(InputError, match="cannot be read as a sound: it holds none"):
        read_control(write(tmp_path / "a.mp4", moving(count=2)), 24)
    samples = np.zeros(16000, "<f4")
    samples[500] = np.nan
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32) + b"data" + struct.pack("<I", 64000)
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(head) + 64000) + head + samples.tobytes())
    with pytest.raises(InputError, match="samples that are not finite"):
        read_control(tmp_path / "a.wav", 24)
