"""Tiny checkpoints with random weights for the tests: those of the families' contract cases."""

from longtake.models.encoders.cases import WORDS, random_text
from longtake.models.ltx.cases import random_ltx
from longtake.models.wan.cases import random_wan

__all__ = ["WORDS", "random_ltx", "random_text", "random_wan"]
