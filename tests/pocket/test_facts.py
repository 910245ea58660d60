"""Facts are drawn from all tables, and unknown ones are refused."""

import random

import pytest

from longtake.pocket import Facts, sample_facts
from longtake.pocket.facts import TABLES


def test_every_fact_is_drawn_and_round_shapes_never_spin():
    rng = random.Random(1)
    seen = [sample_facts(rng) for _ in range(1500)]
    for name, table in TABLES.items():
        assert {getattr(facts, name) for facts in seen} == set(table)
    assert not any(facts.motion == "spin" and facts.shape in ("circle", "ring") for facts in seen)


def test_an_unknown_fact_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no colour of the pocket world: choose red"):
        Facts("mauve", "circle", "left", "sea")
