"""Conditional clips: every frame is told its own row of the track, under every plan; two scales as published."""

import wave
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.engine import Rollout
from longtake.events import Frames
from longtake.models.base import Cond, Past, Text
from longtake.models.clock import ClockSession, clock
from longtake.plan import PlanError
from longtake.plans import plan
from longtake.script import Script
from longtake.track import Track, TwoScales, read

LENGTH = 120
TRACK = Track(torch.stack([torch.arange(LENGTH), -torch.arange(LENGTH)], 1).float())
PLANS = [
    ("sliding", dict(overlap=5)),
    ("relay", dict(overlap=5)),
    ("relay", dict(overlap=5, hand="pixels8", keep="new")),
    ("crossclip", dict(overlap=1)),
    ("endless", dict(lag=2)),
    ("blocks", dict()),
]


class Listening(ClockSession):
    """A clock whose hands are set by the track: it shows what it is told, and fails if that is not the time."""

    def begin(self, window, past, cond):
        super().begin(window, past, cond)
        told = cond.track[..., 0]
        now = torch.stack([self._numbers(f) for f in window.frames]) + (self.base[0, :, 0] if self.base.ndim else 0)
        assert told.shape == (len(window.frames), self.stride) and torch.equal(cond.track[..., 1], -told)
        assert torch.equal(told, now.clamp(max=LENGTH - 1)), (told, now)


@pytest.mark.parametrize(("name", "options"), PLANS)
def test_every_latent_is_told_the_rows_of_its_frames(name, options):
    model = clock(4, view=9, context="beside" if name == "crossclip" else "in place")
    model = replace(model, session=lambda: Listening(4), track=2)
    run = Rollout(model, Script.of("a", 24, LENGTH / 24), plan(name, steps=4, **options), track=TRACK)
    assert sum(e.video.shape[2] for e in run.run() if isinstance(e, Frames)) == LENGTH


def test_slices():
    got = TRACK.sliced([0, 1, 2], 10, 4)[..., 0]
    assert got.tolist() == [[10] * 4, [11, 12, 13, 14], [15, 16, 17, 18]]
    assert TRACK.rows([-3, 0, 500])[:, 0].tolist() == [0, 0, LENGTH - 1]
    assert replace(TRACK, after="silence").rows([119, 120])[:, 0].tolist() == [119, 0]


class Linear:
    """A session whose velocity says what it was told."""

    def begin(self, window, past, cond):
        self.value = cond.texts[0].embedding.sum() + (0 if cond.track is None else 100 * cond.track.sum())

    def __call__(self, x, level):
        return torch.full_like(x, float(self.value))

    def finish(self, window, x):
        self.done = True

    def state(self):
        return {"value": self.value}

    def load(self, state):
        self.value = state["value"]


@pytest.mark.parametrize(("text", "track", "branches"), [(2.0, 5.0, 3), (1.0, 5.0, 3), (3.0, 1.0, 2), (1.0, 1.0, 1)])
def test_two_scales_are_the_published_formula(text, track, branches):
    told = [Text(name, torch.tensor([[[value]]])) for name, value in (("prompt", 7.0), ("negative", 3.0))]
    guided = TwoScales(Linear, text, track, told[1])
    guided.begin(None, Past({}), Cond((told[0],), (0,), track=torch.ones(1, 1, 1)))
    c, d, u = 107.0, 103.0, 3.0
    x = torch.zeros(1, 1, 1, 1, 1)
    assert float(guided(x, torch.ones(1))) == pytest.approx(u + text * (c - d) + track * (d - u))
    assert len(guided.sessions) == branches
    again = TwoScales(Linear, text, track, told[1])
    again.load(guided.state())
    assert torch.equal(again(x, torch.ones(1)), guided(x, torch.ones(1)))


def test_what_is_no_track_is_refused():
    for values in (torch.zeros(3), torch.zeros(0, 2), torch.tensor([[float("nan")]])):
        with pytest.raises(PlanError, match="a row per frame"):
            Track(values)
    with pytest.raises(PlanError, match="hold or silence"):
        replace(TRACK, after="loop")
    for model, takes in ((clock(4), "takes none"), (replace(clock(4), track=1), "takes one of 1 numbers")):
        with pytest.raises(PlanError, match=f"2 numbers for a frame, and clock {takes}"):
            Rollout(model, Script.of("a", 24, 1.0), plan("relay"), track=TRACK)


def test_a_table_and_a_sound_are_read(tmp_path):
    (tmp_path / "pose.csv").write_text("# x, y\n0.5,-1\n0.25,2\n")
    assert read(tmp_path / "pose.csv", 24).tolist() == [[0.5, -1.0], [0.25, 2.0]]
    time_ = np.arange(24000) / 8000
    beeps = (np.sin(2 * np.pi * 440 * time_) * np.where(time_ % 1 < 0.5, 12000, 0)).astype("<i2")
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, 8000, len(beeps), "NONE", ""))
        file.writeframes(beeps.tobytes())
    loud = read(tmp_path / "voice.wav", 16)
    assert loud.shape == (48, 1) and float(loud.max()) == 1
    assert loud[1:7].min() > 0.9 and loud[9:15].max() < 0.05 and loud[33:39].min() > 0.9


def test_what_is_no_track_file_is_said(tmp_path):
    (tmp_path / "words.csv").write_text("a,b\n")
    (tmp_path / "noise.wav").write_bytes(b"nothing")
    for name, words in (
        ("words.csv", "no table of numbers"),
        ("noise.wav", "read as a sound"),
        ("gone.csv", "no track"),
    ):
        with pytest.raises(PlanError, match=words):
            read(tmp_path / name, 24)
