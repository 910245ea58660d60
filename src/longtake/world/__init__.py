"""The pocket world: endless captioned video of one sprite over a scenery, drawn as a function of time."""

from longtake.world.captions import brief, caption, parse
from longtake.world.clip import FPS, Clip, Scene, make_clip
from longtake.world.facts import COLOURS, MOTIONS, SCENERIES, SHAPES, SIZES, Facts, sample_facts
from longtake.world.render import Picture, render
from longtake.world.scenery import SIDE
from longtake.world.words import describe_vocabulary, vocabulary

__all__ = [
    "COLOURS",
    "FPS",
    "MOTIONS",
    "SCENERIES",
    "SHAPES",
    "SIDE",
    "SIZES",
    "Clip",
    "Facts",
    "Picture",
    "Scene",
    "brief",
    "caption",
    "describe_vocabulary",
    "make_clip",
    "parse",
    "render",
    "sample_facts",
    "vocabulary",
]
