"""The vocabulary of the pocket world: the phrases for each fact, and the list of all words."""

from __future__ import annotations

import re

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "golden", "lemon"),
        "green": ("green", "emerald"),
        "blue": ("blue", "cobalt", "azure"),
        "purple": ("purple", "violet"),
        "pink": ("pink", "rose", "magenta"),
        "white": ("white", "ivory"),
    },
    "shape": {
        "circle": ("circle", "ball", "disc", "disk"),
        "square": ("square", "box", "block"),
        "triangle": ("triangle", "wedge"),
        "star": ("star",),
        "heart": ("heart",),
        "ring": ("ring", "hoop", "donut"),
    },
    "motion": {
        "left": (
            "moves left",
            "drifts to the left",
            "glides left",
            "slides to the left",
            "moving left",
            "drifting left",
        ),
        "right": (
            "moves right",
            "drifts to the right",
            "glides to the right",
            "slides right",
            "moving right",
            "drifting right",
        ),
        "up": ("moves up", "rises", "floats upward", "drifts up", "rising", "floating up"),
        "down": ("moves down", "falls", "sinks", "drifts down", "falling", "sinking"),
        "bounce": ("bounces", "hops up and down", "jumps", "is bouncing", "bouncing", "jumping"),
        "orbit": ("orbits", "moves in a circle", "circles around", "loops around", "orbiting", "moving in a circle"),
        "spin": ("spins", "rotates", "turns around", "twirls", "spinning", "rotating"),
        "pulse": ("pulses", "grows and shrinks", "throbs", "breathes", "pulsing", "growing and shrinking"),
        "still": ("stays still", "does not move", "rests", "hangs motionless", "resting", "standing still"),
        "sway": (
            "sways side to side",
            "swings left and right",
            "wobbles from side to side",
            "rocks back and forth",
            "swaying",
            "swinging",
        ),
    },
    "scenery": {
        "day": (
            "over green hills by day",
            "in a sunny meadow",
            "above hills under a blue sky",
            "on a bright day",
            "by day",
        ),
        "night": ("in the night sky", "under the stars", "at night", "on a starry night", "by moonlight"),
        "sea": ("over the sea", "above the ocean", "on the water", "by the sea", "at sea"),
        "desert": ("in the desert", "over sand dunes", "above the dunes", "in a sandy desert", "over the desert"),
        "snow": ("in the snow", "over snowy mountains", "above a snowy landscape", "in winter", "in the mountains"),
        "grid": ("on a plain grid", "over a grey grid", "on graph paper", "against a grid", "on a grid"),
    },
    "size": {
        "small": ("small", "little", "tiny"),
        "normal": ("",),
        "large": ("large", "big", "huge"),
    },
}
GLUE = ("a", "an", "the", "that", "is", "and", "it", "then", "now", "which")


def split(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks."""
    return re.findall(r"[a-z]+|[^\sa-z]", text.lower())


def vocabulary() -> tuple[str, ...]:
    """Return every word that can occur in a caption, sorted."""
    phrases = [phrase for table in WORDS.values() for phrases in table.values() for phrase in phrases]
    return tuple(sorted({word for phrase in (*phrases, *GLUE) for word in split(phrase)}))


def describe_vocabulary() -> str:
    """Describe, in two sentences for users, which prompts the built-in models understand."""
    first = {name: [phrases[0] for phrases in table.values() if phrases[0]] for name, table in WORDS.items()}
    lines = {
        "a colour": first["colour"],
        "a shape": first["shape"],
        "a size": first["size"],
        "a motion": first["motion"],
        "a place": first["scenery"],
    }
    listed = "; ".join(f"{name} ({', '.join(values)})" for name, values in lines.items())
    return f"Say {listed}. Example: a large red star bounces over the sea."
