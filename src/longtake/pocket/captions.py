"""Captions of the pocket world: facts written as a sentence, with paraphrases, and a sentence parsed into facts."""

from __future__ import annotations

import random
import re

from longtake.pocket.facts import Facts
from longtake.pocket.vocabulary import WORDS, split

UNSAID = {"motion": "still", "size": "normal"}  # the facts of a caption that does not mention them


def caption(facts: Facts, rng: random.Random, unsaid: bool = False) -> str:
    """Write a sentence that states the facts; words, word order, article and punctuation vary. unsaid: leave the motion out."""
    colour, shape, motion, scenery, size = (
        rng.choice(WORDS[name][getattr(facts, name)]) for name in ("colour", "shape", "motion", "scenery", "size")
    )
    if unsaid or (facts.motion == "still" and rng.random() < 0.15):
        motion = ""
    thing = " ".join(filter(None, (size, colour, shape)))
    article = "an" if thing[0] in "aeiou" else "a"
    thing = f"{rng.choices([article, 'the', ''], [0.6, 0.2, 0.2])[0]} {thing}".strip()
    return _finish(_order(thing, motion, scenery, rng), rng)


def brief(facts: Facts, rng: random.Random) -> str:
    """Write a sentence that states the motion alone, for a model that sees everything else in its input image."""
    motion = rng.choice(WORDS["motion"][facts.motion])
    finite = not re.search(r"^\w+ing\b", motion)
    return _finish(f"it {motion}" if finite and rng.random() < 0.6 else motion, rng)


def _order(thing: str, motion: str, scenery: str, rng: random.Random) -> str:
    """Join the parts by one of four sentence patterns."""
    if not motion:
        return f"{thing} {scenery}"
    patterns = (
        f"{thing} {motion} {scenery}",
        f"{scenery}, {thing} {motion}",
        f"{thing} that {motion}, {scenery}",
        f"{thing}, {motion}, {scenery}",
    )
    return rng.choices(patterns, [0.6, 0.2, 0.05, 0.15])[0]


def _finish(text: str, rng: random.Random) -> str:
    """Sometimes start with a capital, sometimes end with a full stop."""
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.3 else text


def parse(text: str) -> dict[str, str]:
    """Return the facts that a caption states, {field: value}. `UNSAID` fills its fields in; other missing facts are left out.

    Longer phrases are matched first and removed, so "moves in a circle" is no circle and "under the stars" is no star.
    """
    rest, found = f" {' '.join(split(text))} ", {}
    for field in ("motion", "scenery", "size", "colour", "shape"):
        phrases = [(phrase, value) for value, table in WORDS[field].items() for phrase in table if phrase]
        for phrase, value in sorted(phrases, key=lambda item: -len(item[0])):
            pattern = rf"(?<= ){re.escape(phrase)}(?= )"
            if re.search(pattern, rest):
                rest, found[field] = re.sub(pattern, "", rest, count=1), value
                break
    return {**UNSAID, **found}
