"""What a block-causal staircase costs, counted: all frames at every call under a dense mask, or only those that move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from longtake.models.wan import WanConfig
from longtake.plan import Window


@dataclass(frozen=True)
class Work:
    """Multiplications of a network, times two. tokens: of a latent frame; text: of a prompt."""

    config: WanConfig
    tokens: int
    text: int

    def frames(self, count: int, seen: int) -> float:
        """FLOPs of `count` latent frames that attend to `seen` of them."""
        dim, length = self.config.dim, count * self.tokens
        linear = 4 * dim + 2 * dim + 2 * self.config.ffn_dim  # q k v o, then q and o of the text, then the feed-forward
        products = 2 * dim * (seen * self.tokens + self.text)  # scores and values, of frames and of text
        return 2 * self.config.num_layers * length * (dim * linear + products)

    def reading(self) -> float:
        """FLOPs of keys and values of a text, in every layer."""
        return 8 * self.config.num_layers * self.text * self.config.dim**2


def dense(work: Work, windows: Iterable[Window]) -> float:
    """Every frame attends to every other under a mask at every call, and the text is read at every call."""
    return sum(w.calls * (work.frames(len(w.frames), len(w.frames)) + work.reading()) for w in windows)


def needed(work: Work, windows: Iterable[Window]) -> float:
    """Frames that move, seeing what their block may see; every block once more when it is clean, if one comes after."""
    total = work.reading()
    for window in windows:
        block, table = window.block, window.levels
        last = max(block)
        for row, after in pairwise(table):
            moving = {block[i] for i in (row != after).nonzero()[:, 0].tolist()}
            total += sum(_block(work, window, number) for number in moving)
        total += sum(_block(work, window, number) for number in set(block) if number < last)
    return total


def _block(work: Work, window: Window, number: int) -> float:
    """One block of a window, which sees itself and those before it."""
    return work.frames(window.block.count(number), sum(b <= number for b in window.block))
