"""Creative clips: stories come from templates or a plug-in, are read back, and become clips that change from prompt to prompt."""

import random
import sys
import types
from itertools import pairwise

import pytest
import torch

from longtake.planning.script_files import load_script
from longtake.pocket import parse, render
from longtake.pocket.clips import Source
from longtake.pocket.judge import find_sprite
from longtake.pocket.stories import (
    StoryError,
    digest,
    from_templates,
    main,
    parse_stories,
    pocket_story,
    story_writer,
    write_stories,
)
from longtake.train.datasets.pocket import PocketLatents, fill_cache
from longtake.train.recipes.registry import RECIPES
from tests.train.recipes.test_control import NETWORK, mean, rng, table  # noqa: F401

STORY = """# three prompts, then two
A red circle moves left over the sea
it turns into a blue square
by day it bounces

a white star spins at night
a white star pulses at night
"""


@pytest.fixture
def stories(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text(STORY)
    return str(path)


# ---------------------------------------------------------------- telling
def test_the_pocket_world_tells_stories_that_change_and_are_understood():
    story = pocket_story(random.Random(3), 12)
    facts = parse_stories("\n".join(story))[0]
    assert len(facts) == 12 and len(set(facts)) > 6
    assert all(getattr(f, name) == value for f, line in zip(facts, story) for name, value in parse(line).items()
               if name in ("colour", "shape", "scenery"))  # fmt: skip


def test_templates_keep_what_is_to_stay_and_change_the_rest():
    words = {
        "pattern": "{who} {does} {where}", "keep": ["who"], "who": ["a fox", "a robot"],
        "does": ["runs", "sleeps", "looks up"], "where": ["in the snow", "by a lake"],
    }  # fmt: skip
    for story in write_stories(from_templates(words), 20, 5):
        assert len({line.split(" ")[1] for line in story}) == 1
        assert all(a != b for a, b in pairwise(story))
    assert write_stories(from_templates(words), 2, 5, seed=1) == write_stories(from_templates(words), 2, 5, seed=1)
    with pytest.raises(StoryError, match="a list of words for each name"):
        from_templates({"pattern": "{who} walks"})


def test_a_language_model_is_a_function_of_yours(tmp_path, monkeypatch, capsys):
    module = types.ModuleType("my_stories")
    module.tell = lambda rng, length: [f"a red ball jumps at sea, part {n}" for n in range(length)]
    module.short = lambda rng, length: ["one"]
    monkeypatch.setitem(sys.modules, "my_stories", module)
    out = tmp_path / "out.txt"
    assert main(["--source", "my_stories:tell", "--count", "2", "--length", "3", "-o", str(out)]) == 0
    assert out.read_text().count("\n\n") == 1 and len(parse_stories(out.read_text())) == 2
    assert len(load_script(out, 24).scenes) == 6, "a file of one story is a script as it is"
    for name, words in (
        ("my_stories:short", "a story is 3 prompts"),
        ("nowhere:tell", "or a function"),
        ("no", "or a func"),
    ):
        assert main(["--source", name, "--length", "3", "-o", str(out)]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(StoryError, match=r"gone\.toml"):
        story_writer("gone.toml")


# ---------------------------------------------------------------- understanding
def test_what_a_prompt_leaves_out_stays_as_it_was():
    first, second = parse_stories(STORY)
    assert [(f.colour, f.shape, f.motion, f.scenery) for f in first] == [
        ("red", "circle", "left", "sea"), ("blue", "square", "left", "sea"), ("blue", "square", "bounce", "day"),
    ]  # fmt: skip
    assert [f.motion for f in second] == ["spin", "pulse"]
    with pytest.raises(StoryError, match="line 2 begins a story and does not state the shape"):
        parse_stories("# one\na red thing rests at sea\n")


def test_a_clip_begins_with_one_prompt_and_continues_with_the_next(stories, tmp_path):
    clips = Source(frames=33, switch=0.0, stories=stories)
    assert clips.facts()["sha256"] == digest(stories) and "drive" not in clips.facts()
    shown = render(clips.clip(0), 0, 33).frames
    assert find_sprite(shown[:1])[0] == "red" and find_sprite(shown[-8:])[0] == "blue"
    assert clips.clip(0).scenes[1].facts == clips.clip(1).scenes[0].facts and clips.clip(3).seed != clips.clip(0).seed
    fill_cache(tmp_path / "latents", clips, 4, lambda frames: torch.zeros(1, 4, 9, 8, 8), report=lambda line: None)
    data = PocketLatents(tmp_path / "latents")
    assert data.single_caption == [0, 1, 2, 3] and data.source == clips
    ((at, words),) = data.captions(0, 0, 9, random.Random(0))
    assert at == 0 and parse(words)["colour"] == "blue" and parse(words)["shape"] == "square"


def test_other_stories_are_not_taken_for_those_that_were_encoded(stories):
    clips = Source(frames=33, switch=0.0, stories=stories)
    with open(stories, "a") as file:
        file.write("a white star rests at night\n")
    with pytest.raises(StoryError, match="has changed since its clips"):
        clips.clip(0)
    with pytest.raises(StoryError, match="cannot read the stories"):
        Source(switch=0.0, stories=stories + ".gone")
    with pytest.raises(ValueError, match=r"switch = 0\.0"):
        Source(stories=stories)


def test_errors_are_recycled_in_creative_clips(table, stories, tmp_path):  # noqa: F811
    settings = {
        **table, "data": "", "clips": 2, "source": dict(frames=33, switch=0.0, stories=stories),
        "network": {**NETWORK, "in_channels": 12},
    }  # fmt: skip
    config = dict(
        recipe="image_to_video",
        preset="svi-film",
        lora={"rank": 2, "alpha": 2.0},
        bank={"capacity": 2},
        settings=settings,
    )
    recipe = RECIPES["error_recycling"].make(config, tmp_path / "run", RECIPES)
    assert mean(recipe.loss(0, rng(1))).isfinite()
    captions = {words for seed in range(8) for each in recipe.inner.draw(0, rng(seed)).captions for _, words in each}
    assert captions - {""} and all(parse(words)["colour"] == "blue" for words in captions - {""})
