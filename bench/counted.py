"""FLOPs of a block-causal staircase: all frames at every step under a dense mask, or only the frames that change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from longtake.models.wan.config import WanConfig
from longtake.planning.window import Window


@dataclass(frozen=True)
class Work:
    """FLOPs of a network. tokens: tokens of a latent frame; text: tokens of a prompt."""

    config: WanConfig
    tokens: int
    text: int

    def frames(self, count: int, seen: int) -> float:
        """Return the FLOPs of `count` latent frames that attend to `seen` frames."""
        dim, length = self.config.dim, count * self.tokens
        linear = 6 * dim + 2 * self.config.ffn_dim  # q k v o, q and o of cross-attention, then the feed-forward
        products = 2 * dim * (seen * self.tokens + self.text)  # scores and values of self- and cross-attention
        return 2 * self.config.num_layers * length * (dim * linear + products)

    def text_keys(self) -> float:
        """Return the FLOPs of the keys and values of a prompt, in every layer."""
        return 8 * self.config.num_layers * self.text * self.config.dim**2


def dense(work: Work, windows: Iterable[Window]) -> float:
    """Return the FLOPs of a dense mask: every step computes all frames, and the keys and values of the prompt."""
    return sum(w.steps * (work.frames(len(w.frames), len(w.frames)) + work.text_keys()) for w in windows)


def needed(work: Work, windows: Iterable[Window]) -> float:
    """Return the FLOPs of changing frames with the context of their block, plus one pass over each clean block that is followed by another."""
    total = work.text_keys()
    for window in windows:
        block, table = window.block, window.sigmas
        last = max(block)
        for row, after in pairwise(table):
            moving = {block[i] for i in (row != after).nonzero()[:, 0].tolist()}
            total += sum(_block(work, window, number) for number in moving)
        total += sum(_block(work, window, number) for number in set(block) if number < last)
    return total


def _block(work: Work, window: Window, number: int) -> float:
    """Return the FLOPs of one block of a window, which attends to itself and the blocks before it."""
    return work.frames(window.block.count(number), sum(b <= number for b in window.block))
