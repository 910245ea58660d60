"""The pocket world: endless captioned video of one sprite over a scenery, rendered as a function of time."""

from longtake.pocket.captions import brief, caption, parse
from longtake.pocket.clip import Clip, Scene, make_clip
from longtake.pocket.facts import COLOURS, MOTIONS, SCENERIES, SHAPES, SIZES, Facts, sample_facts
from longtake.pocket.motion import FPS
from longtake.pocket.render import Picture, render
from longtake.pocket.scenery import SIDE
from longtake.pocket.vocabulary import describe_vocabulary, vocabulary

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
