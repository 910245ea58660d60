"""The contact sheet shows evenly spaced frames of every scene with their times."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.media import contact_sheet as shared
from longtake.planning.script import Scene, Script
from longtake.runs import contact_sheet as sheet
from longtake.runs import record
from longtake.runs.contact_sheet import Section
from tests.runs.toy_runs import clock


def colour(number: int, height: int = 36, width: int = 64) -> torch.Tensor:
    """Return a frame whose red value is its number."""
    return torch.tensor([number % 256, 90, 200], dtype=torch.uint8).expand(height, width, 3).contiguous()


def test_every_scene_has_its_rows():
    plan = sheet.lay_out([Section("one", 0, 99), Section("two", 100, 399), Section("three", 400, 401)], (36, 64))
    assert [section.heading for section, _ in plan.rows] == ["one", "two", "three"]
    for section, numbers in plan.rows:
        assert numbers[0] == section.first and (numbers[-1] == section.last or len(numbers) == 1)
        steps = [b - a for a, b in pairwise(numbers)]
        assert all(step > 0 for step in steps) and max(steps, default=0) - min(steps, default=0) <= 1
    assert len(plan.rows[2][1]) == 2
    many = sheet.lay_out([Section(str(i), i, i) for i in range(30)], (36, 64))
    assert [section.heading for section, _ in many.rows] == ["30 scenes"]


def test_a_title_of_any_length_is_cut_by_measuring_it_a_few_times(monkeypatch):
    measured = []

    class Face:
        def getlength(self, text):
            measured.append(text)
            return 10 * len(text)

    monkeypatch.setattr(shared, "font", lambda size: Face())
    assert shared.fitted_text("a red\n ball", 30, 100) == "a red ball"
    assert shared.fitted_text("0123456789 ab", 30, 100) == "012345678…"
    assert shared.fitted_text("0123 56789 ab", 30, 60) == "0123…"
    assert shared.fitted_text("abc", 30, 5) == "…"
    measured.clear()
    assert len(shared.fitted_text("x" * 100_000, 30, 1000)) == 100 and len(measured) < 20


@pytest.mark.parametrize("size", [(36, 64), (64, 64), (64, 36), (16, 16), (1, 1), (9, 160)])
@pytest.mark.parametrize("frames", [1, 2, 7, 5000])
def test_sheets_of_any_size_are_drawn(size, frames):
    plan = sheet.lay_out([Section("", 0, frames - 1)], size)
    image = Image.open(io.BytesIO(sheet.draw(plan, lambda n: colour(n, *size), 24.0, "a red ball " * 30, "24 fps")))
    assert image.size[0] == sheet.WIDTH and image.mode == "RGB"


def test_the_chosen_frames_are_shown():
    plan = sheet.lay_out([Section("a ball", 0, 15)], (36, 64))
    image = np.array(Image.open(io.BytesIO(sheet.draw(plan, lambda n: colour(10 * n), 24.0, "t", "n"))))
    reds = {int(r) for r in np.unique(image[(image[..., 1] == 90) & (image[..., 2] == 200)][:, 0])}
    assert reds == {10 * n for n in plan.rows[0][1]}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (65, "1:05"), (7207.9, "2:00:07")])
def test_times_are_formatted(seconds, text):
    assert sheet.clock(seconds) == text


def test_a_finished_run_has_a_contact_sheet(tmp_path):
    video = clock()
    script = Script.of([Scene("a red ball", 2.0), Scene("a blue star")], 24, 127 / 24)
    list(record(video.rollout(), video.manifest(script=script.facts()), tmp_path))
    image = Image.open(tmp_path / "sheet.png")
    assert image.size[0] == sheet.WIDTH and len(image.getcolors(1 << 20)) > 50
