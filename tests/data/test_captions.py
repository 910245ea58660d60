"""What a caption may say and how it is told; captioners as plug-ins."""

from itertools import pairwise

import numpy as np
import pytest

from longtake.data import captioner
from longtake.data.caption import CHOICES, Caption, CaptionError
from longtake.data.captioner import CaptionerError, Glimpse, ask, evenly, find
from longtake.data.video import Video
from tests.data.clips import real


def test_the_parts_become_sentences():
    caption = Caption(
        subject="a dog runs", shot_size="medium", angle="low", position="side", camera_motion="pan left",
        environment="a wet beach", light="low sun",
    )  # fmt: skip
    assert caption.sentence() == (
        "Medium shot, from the side, from below: a dog runs. The camera pans left. A wet beach. Low sun."
    )
    assert Caption(text="as written", subject="a dog").sentence() == "as written"
    assert Caption(**caption.facts()) == caption and not Caption() and Caption().sentence() == ""


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_is_told_and_no_other_is_taken(name):
    told = {Caption(subject="x", **{name: value}).sentence() for value in CHOICES[name]}
    assert len(told) == len(CHOICES[name]) and Caption(subject="x").sentence() not in told
    with pytest.raises(CaptionError, match="is not known"):
        Caption(**{name: "sideways upwards"})


def test_a_near_miss_names_the_right_word():
    with pytest.raises(CaptionError, match="did you mean 'zoom in'"):
        Caption.of({"camera motion": "zoom  inn"})
    with pytest.raises(CaptionError, match="no part 'mood'"):
        Caption.of({"mood": "gay"})


def test_rows_of_tables_are_tidied():
    assert Caption.of({"Shot Size": " Wide ", "subject": ["a cat", "a dog", "a cow"], "light": None}) == Caption(
        subject="a cat, a dog and a cow", shot_size="wide"
    )


def test_things_are_picked_evenly():
    assert evenly(range(100), 4) == [12, 37, 62, 87] and evenly([1, 2], 8) == [1, 2] and evenly([], 3) == []


def test_a_captioner_sees_pictures_of_the_shot():
    with Video(real("bikes.mp4")) as video:
        stamps = [frame.stamp for frame in video.frames()]
    frames = Glimpse(real("bikes.mp4"), 0, 10, 25, stamps).frames
    assert frames.shape == (8, 218, 512, 3) and frames.dtype == np.uint8
    assert min(np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)) > 5


def test_a_captioner_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "made = 0\nclass Says:\n    def __init__(self):\n        global made\n        made += 1\n"
        "    def __call__(self, glimpse):\n        return f'{glimpse.file.name}  for {glimpse.seconds} s'\n"
    )
    monkeypatch.chdir(tmp_path)
    say, glimpse = find("mine:Says"), Glimpse(tmp_path / "red_car-02.mp4", 0, 2, 24)
    assert ask(say, glimpse).text == "red_car-02.mp4 for 2 s"
    assert ask(find("filename"), glimpse).text == "red car" and not ask(find("none"), glimpse)
    for name in ("nobody", "mine:missing", "nowhere:at_all"):
        with pytest.raises(CaptionerError):
            find(name)


def test_a_captioner_of_another_package_is_an_entry_point(monkeypatch):
    class Entry:
        name = "clever"

        def load(self):
            return lambda glimpse: Caption(subject="a cat")

    monkeypatch.setattr(captioner, "entry_points", lambda group, name="clever": [Entry()] if name == "clever" else [])
    assert ask(find("clever"), Glimpse(real("bikes.mp4"), 0, 1, 25)).subject == "a cat"
    with pytest.raises(CaptionerError, match="none, filename, clever"):
        find("stupid")


def test_what_goes_wrong_in_a_captioner_is_said():
    glimpse = Glimpse(real("bikes.mp4"), 0, 1, 25)
    with pytest.raises(CaptionerError, match="gave a int"):
        ask(lambda glimpse: 3, glimpse)
    with pytest.raises(CaptionerError, match="failed: KeyError"):
        ask(lambda glimpse: {}["x"], glimpse)
