"""Facts of a scene of the pocket world: the ground truth that a caption states and the judge reads."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# sRGB in [0, 1]; far enough apart, and far enough from every scenery, to be recognised by distance alone
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.10, 0.12),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (1.00, 0.90, 0.10),
    "green": (0.10, 0.72, 0.20),
    "blue": (0.12, 0.25, 0.95),
    "purple": (0.55, 0.15, 0.80),
    "pink": (1.00, 0.40, 0.75),
    "white": (1.00, 1.00, 1.00),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down", "bounce", "orbit", "spin", "pulse", "still", "sway")
SCENERIES = ("day", "night", "sea", "desert", "snow", "grid")
SIZES: dict[str, float] = {"small": 0.28, "normal": 0.35, "large": 0.42}  # radius; the screen is 2 wide
ROUND = ("circle", "ring")  # shapes whose rotation is invisible


@dataclass(frozen=True)
class Facts:
    """One sprite over one scenery. Every value is one of the tables above; ValueError otherwise."""

    colour: str
    shape: str
    motion: str
    scenery: str
    size: str = "normal"

    def __post_init__(self) -> None:
        for name, known in TABLES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{getattr(self, name)!r} is no {name} of the pocket world: choose {', '.join(known)}")


TABLES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "scenery": SCENERIES,
    "size": tuple(SIZES),
}
JUDGED = ("colour", "shape", "motion", "scenery")


def sample_facts(rng: random.Random) -> Facts:
    """Draw facts at random; a round shape never spins, since nobody could see it."""
    size = rng.choices(list(SIZES), [0.2, 0.6, 0.2])[0]
    facts = Facts(rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(MOTIONS), rng.choice(SCENERIES), size)
    return visible(facts, rng)


def visible(facts: Facts, rng: random.Random) -> Facts:
    """Return the same facts, with another shape if a round one would spin."""
    if facts.motion == "spin" and facts.shape in ROUND:
        return replace(facts, shape=rng.choice([shape for shape in SHAPES if shape not in ROUND]))
    return facts


def change_facts(facts: Facts, rng: random.Random) -> Facts:
    """Draw the facts after a switch: most often a new motion, else a new colour, scenery or shape, or everything at once."""
    what = rng.choices(["motion", "colour", "scenery", "shape", "all"], [0.35, 0.2, 0.2, 0.1, 0.15])[0]
    other = sample_facts(rng)
    if what == "all":
        return other
    value = rng.choice([value for value in TABLES[what] if value != getattr(facts, what)])
    return visible(replace(facts, **{what: value}), rng)
