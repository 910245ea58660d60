"""Captions state the facts, in varied words, and are parsed back into them."""

import random

from longtake.pocket import (
    COLOURS,
    MOTIONS,
    SHAPES,
    brief,
    caption,
    describe_vocabulary,
    parse,
    sample_facts,
    vocabulary,
)
from longtake.pocket.facts import TABLES
from longtake.pocket.vocabulary import split


def test_brief_captions_state_the_motion_alone():
    rng = random.Random(3)
    for _ in range(200):
        facts = sample_facts(rng)
        text = brief(facts, rng)
        assert parse(text) == {"motion": facts.motion, "size": "normal"} and set(split(text)) - {"."} <= set(
            vocabulary()
        )


def test_captions_state_the_facts():
    rng = random.Random(0)
    texts = set()
    for _ in range(2000):
        facts = sample_facts(rng)
        text = caption(facts, rng)
        texts.add(text)
        assert parse(text) == {name: getattr(facts, name) for name in TABLES}, text
        assert set(split(text)) <= set(vocabulary()) | {".", ","}, text
    assert len(texts) > 1900


def test_a_fact_that_a_caption_omits_is_not_parsed():
    assert parse("hello") == {"motion": "still", "size": "normal"}
    assert parse("It moves in a circle.") == {"motion": "orbit", "size": "normal"}
    assert parse("A RED ball, over the sea!") == {
        "motion": "still", "size": "normal", "colour": "red", "shape": "circle", "scenery": "sea",
    }  # fmt: skip


def test_the_description_for_users_names_every_fact():
    text = describe_vocabulary()
    for word in (*COLOURS, *SHAPES):
        assert word in text
    assert text.count(",") > len(MOTIONS)
