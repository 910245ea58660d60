"""Prompts of the pocket world are unseen, repeatable, and generate the same videos in one process or several."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from longtake.eval.pocket_prompts import Sampling, VideoRequest, combination, generate_all, unseen_prompts
from longtake.models import load
from longtake.planning.script import Scene
from longtake.pocket import parse
from longtake.pocket.facts import ROUND


def test_prompts_are_unseen_and_fixed_by_their_seed():
    first = unseen_prompts(20, 5)
    seen = frozenset(combination(prompt.facts) for prompt in first[:10])
    second = unseen_prompts(20, 5, seen)
    assert first == unseen_prompts(20, 5) and first != unseen_prompts(20, 6)
    assert not seen & {combination(prompt.facts) for prompt in second}
    assert [prompt.seed for prompt in second] == list(range(5, 25))


def test_a_changed_prompt_changes_one_fact_and_states_it():
    for number, prompt in enumerate(unseen_prompts(30, 7)):
        name = ("colour", "scenery", "motion")[number % 3]
        later = prompt.changed(name)
        assert replace(prompt.facts, **{name: getattr(later.facts, name)}) == later.facts != prompt.facts
        assert parse(later.text)[name] == getattr(later.facts, name) and later == prompt.changed(name)
        assert not (later.facts.shape in ROUND and later.facts.motion == "spin")


def test_an_image_to_video_model_gets_the_true_first_frame():
    (prompt,) = unseen_prompts(1, 3)
    models = [SimpleNamespace(limits=SimpleNamespace(conditioning=kind)) for kind in ("sigmas", "concat")]
    text, image = (prompt.request(model) for model in models)
    assert text == VideoRequest(prompt.text, 3)
    assert (image.script, image.seed, image.frames) == (prompt.text, 3, text.frames)
    assert torch.equal(image.image, (prompt.rendered(1)[0] * 255).round().byte().permute(1, 2, 0))
    assert parse(prompt.briefly().text) == {"motion": prompt.facts.motion, "size": "normal"}


@pytest.mark.long
def test_two_processes_generate_the_videos_of_one():
    scenes = (Scene("a blue ring", 1 / 12), Scene("a ball", 1 / 12))
    requests, quick = [VideoRequest("a red star", 1, 5), VideoRequest(scenes, 2)], Sampling(steps=1)
    model = load("pocket")
    alone, shared = generate_all(model, requests, quick), generate_all(model, requests, quick, jobs=2)
    assert [len(video) for video in alone] == [5, 4] and all(torch.equal(a, b) for a, b in zip(alone, shared))
