"""The parts of a caption and its sentences; captioners as plug-ins."""

from itertools import pairwise

import numpy as np
import pytest

from longtake.data.captions import captioners as captioner
from longtake.data.captions.caption import CHOICES, Caption, CaptionError
from longtake.data.captions.captioners import CaptionerError, ShotView, describe_shot, evenly_spaced, find_captioner
from longtake.media.video_reader import VideoReader
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
def test_every_choice_has_its_sentence_and_others_are_refused(name):
    sentences = {Caption(subject="x", **{name: value}).sentence() for value in CHOICES[name]}
    assert len(sentences) == len(CHOICES[name]) and Caption(subject="x").sentence() not in sentences
    with pytest.raises(CaptionError, match="is not allowed"):
        Caption(**{name: "sideways upwards"})


def test_a_near_miss_names_the_right_word():
    with pytest.raises(CaptionError, match="did you mean 'zoom in'"):
        Caption.from_parts({"camera motion": "zoom  inn"})
    with pytest.raises(CaptionError, match="no part 'mood'"):
        Caption.from_parts({"mood": "gay"})


def test_rows_of_tables_are_tidied():
    assert Caption.from_parts(
        {"Shot Size": " Wide ", "subject": ["a cat", "a dog", "a cow"], "light": None}
    ) == Caption(subject="a cat, a dog and a cow", shot_size="wide")


def test_items_are_evenly_spaced():
    assert (
        evenly_spaced(range(100), 4) == [12, 37, 62, 87]
        and evenly_spaced([1, 2], 8) == [1, 2]
        and evenly_spaced([], 3) == []
    )


def test_a_captioner_gets_frames_of_the_shot():
    with VideoReader(real("bikes.mp4")) as video:
        stamps = [frame.stamp for frame in video.frames()]
    frames = ShotView(real("bikes.mp4"), 0, 10, 25, stamps).frames
    assert frames.shape == (8, 218, 512, 3) and frames.dtype == np.uint8
    assert min(np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)) > 5


def test_a_captioner_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "made = 0\nclass Says:\n    def __init__(self):\n        global made\n        made += 1\n"
        "    def __call__(self, shot):\n        return f'{shot.file.name}  for {shot.seconds} s'\n"
    )
    monkeypatch.chdir(tmp_path)
    say, shot = find_captioner("mine:Says"), ShotView(tmp_path / "red_car-02.mp4", 0, 2, 24)
    assert describe_shot(say, shot).text == "red_car-02.mp4 for 2 s"
    assert describe_shot(find_captioner("filename"), shot).text == "red car" and not describe_shot(
        find_captioner("none"), shot
    )
    for name in ("nobody", "mine:missing", "nowhere:at_all"):
        with pytest.raises(CaptionerError):
            find_captioner(name)


def test_a_captioner_of_another_package_is_an_entry_point(monkeypatch):
    class Entry:
        name = "clever"

        def load(self):
            return lambda shot: Caption(subject="a cat")

    monkeypatch.setattr(captioner, "entry_points", lambda group, name="clever": [Entry()] if name == "clever" else [])
    assert describe_shot(find_captioner("clever"), ShotView(real("bikes.mp4"), 0, 1, 25)).subject == "a cat"
    with pytest.raises(CaptionerError, match="none, filename, clever"):
        find_captioner("stupid")


def test_a_captioner_that_fails_is_reported():
    shot = ShotView(real("bikes.mp4"), 0, 1, 25)
    with pytest.raises(CaptionerError, match="returned a int"):
        describe_shot(lambda shot: 3, shot)
    with pytest.raises(CaptionerError, match="failed: KeyError"):
        describe_shot(lambda shot: {}["x"], shot)
