"""The judge reads what is there, and does not read what is not."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from longtake.eval.judge import Verdict, find_sprite, follow, judge, score, wilson
from longtake.eval.pocket import SWITCHED, Ask, background, changed, known, make, psnr, shuffled, table, unseen_prompts
from longtake.eval.pocket import Settings as Quick
from longtake.eval.sheet import contact_sheet
from longtake.models import load
from longtake.script import Scene as Story
from longtake.world import Clip, Facts, Scene, parse, render, sample_facts
from longtake.world.facts import JUDGED, ROUND

COUNT = 16


@pytest.fixture(scope="module")
def read():
    """Facts of fresh clips, their frames, and what the judge reads."""
    rng = random.Random("judge test")
    facts = [sample_facts(rng) for _ in range(COUNT)]
    frames = [render(Clip((Scene(f),), 900 + n), 0, 97).frames for n, f in enumerate(facts)]
    return facts, frames, [judge(video) for video in frames]


def test_true_renders_are_read_right(read):
    facts, _, verdicts = read
    for name, share in score(facts, verdicts).items():
        assert share.hits >= COUNT - 1, f"{name}: {share}"


def test_other_prompts_are_not_found(read):
    facts, _, verdicts = read
    shares = score(facts, shuffled(verdicts))
    assert all(share.value < 0.6 for share in shares.values())
    assert sum(share.hits for share in shares.values()) < 0.35 * 4 * COUNT


def test_each_fact_is_read_on_its_own(read):
    """Changing the colour, the direction of time or the height of the picture changes that fact and no other."""
    rng = random.Random(2)
    facts = Facts("red", "star", "right", "desert")
    frames = render(Clip((Scene(facts),), rng.randrange(99)), 0, 97).frames
    assert judge(frames.flip(0)).motion == "left"
    assert judge(frames[:1].expand(97, -1, -1, -1)).motion == "still"
    blue = render(Clip((Scene(Facts("blue", "star", "right", "desert")),), 5), 0, 97).frames
    verdict = judge(blue)
    assert (verdict.colour, verdict.shape, verdict.motion, verdict.scenery) == ("blue", "star", "right", "desert")


def test_nothing_is_read_from_nothing(read):
    grey = judge(torch.full((97, 3, 64, 64), 0.5))
    assert grey.colour is None and grey.shape is None and grey.motion is None
    torch.manual_seed(0)
    noise = [judge(torch.rand(33, 3, 64, 64)) for _ in range(2)]
    assert all(verdict.overlap < 0.5 for verdict in noise)


def test_a_sprite_is_followed_across_the_edge():
    clip = Clip((Scene(Facts("red", "circle", "right", "grid")),), 3)
    _, mask = find_sprite(render(clip, 0, 97).frames[::2])
    track = follow(mask, 2)
    assert float(track.x[-1]) == pytest.approx(0.75 * 96 / 24, rel=0.03)
    assert track.y.abs().max() < 0.05


def test_wilson_intervals():
    low, high = wilson(57, 60)
    assert (round(low, 3), round(high, 3)) == (0.863, 0.983)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="as many of each"):
        score([], [])


def test_prompts_are_unseen_and_the_same_for_a_seed():
    first = unseen_prompts(20, 5)
    seen = frozenset(known(prompt.facts) for prompt in first[:10])
    second = unseen_prompts(20, 5, seen)
    assert first == unseen_prompts(20, 5) and first != unseen_prompts(20, 6)
    assert not seen & {known(prompt.facts) for prompt in second}
    assert [prompt.seed for prompt in second] == list(range(5, 25))


def test_the_background_is_what_lies_behind_the_sprite():
    facts = Facts("red", "square", "left", "grid")
    bare = background(render(Clip((Scene(facts),), 3), 0, 97).frames)
    other = background(render(Clip((Scene(Facts("blue", "heart", "up", "grid")),), 3), 0, 97).frames)
    assert psnr(bare, other) > 30 > psnr(bare, bare * 0.8)


def test_the_table_and_the_sheet_show_every_row(read):
    facts, frames, verdicts = read
    text = table({"one": score(facts, verdicts), "two": score(facts, [Verdict(None, None, None, "sea", 0.0)] * COUNT)})
    assert text.count("%") == 8 and all(name in text for name in (*JUDGED, "one", "two"))
    paper = contact_sheet([("a", frames[0]), ("b", frames[1])], columns=4, scale=1)
    assert paper.size == (2 * 20 + 4 * 70 - 6, 2 * 20 + 2 * 100 - 6)
    assert len(paper.getcolors(1 << 20)) > 100


def test_a_switch_changes_one_fact_and_says_so():
    for number, prompt in enumerate(unseen_prompts(30, 7)):
        name = SWITCHED[number % len(SWITCHED)]
        later = changed(prompt, name)
        assert replace(prompt.facts, **{name: getattr(later.facts, name)}) == later.facts != prompt.facts
        assert parse(later.text)[name] == getattr(later.facts, name) and later == changed(prompt, name)
        assert not (later.facts.shape in ROUND and later.facts.motion == "spin")


def test_a_model_that_brings_pictures_to_life_is_given_the_true_first_one():
    (prompt,) = unseen_prompts(1, 3)
    plain, told = (prompt.asked(SimpleNamespace(limits=SimpleNamespace(context=c))) for c in ("levels", "beside"))
    assert plain == Ask(prompt.text, 3) and (told.script, told.seed, told.frames) == (prompt.text, 3, plain.frames)
    assert torch.equal(told.image, (prompt.rendered(1)[0] * 255).round().byte().permute(1, 2, 0))
    assert parse(prompt.briefly().text) == {"motion": prompt.facts.motion, "size": "normal"}


def test_two_processes_make_what_one_makes():
    asked, quick = (
        [Ask("a red star", 1, 5), Ask((Story("a blue ring", 1 / 12), Story("a ball", 1 / 12)), 2)],
        Quick(steps=1),
    )
    model = load("pocket")
    alone, shared = make(model, asked, quick), make(model, asked, quick, jobs=2)
    assert [len(made) for made in alone] == [5, 4] and all(torch.equal(a, b) for a, b in zip(alone, shared))
