"""Teacher forcing of a block-causal network: every block is noisy once and sees clean blocks before it.

A call holds the video twice: clean frames, then noisy ones. So one call trains every block under what it meets block
by block: the keys and values of clean frames, which themselves saw only what came before them (as in CausVid and
Self-Forcing).
"""

from __future__ import annotations

from collections.abc import Sequence

from longtake.models.layers import runs
from longtake.models.wan_block import Span


def banded(blocks: Sequence[int], view: int) -> list[Span]:
    """Every block attends to itself and to what fits in a view of `view` frames with it: as with stored keys and
    values, of which the oldest are forgotten. Spans in frames."""
    stretches = [(start, stop) for _, start, stop in runs(blocks)]
    return [Span(start, stop, ((_oldest(stretches, stop, view), stop),)) for start, stop in stretches]


def teacher_spans(blocks: Sequence[int], view: int) -> list[Span]:
    """Spans of a call of 2 F frames: clean ones `banded`, then noisy ones, each block of which attends to the clean
    blocks before it that fit in the view, and to itself."""
    clean, frames = banded(blocks, view), len(blocks)
    noisy = []
    for span in clean:
        own = (frames + span.start, frames + span.stop)
        first = span.sees[0][0]
        noisy.append(Span(*own, ((first, span.start), own) if first < span.start else (own,)))
    return [*clean, *noisy]


def _oldest(stretches: Sequence[tuple[int, int]], stop: int, view: int) -> int:
    """The first frame of the oldest whole block that is in a view of `view` frames which ends at `stop`."""
    return min((start for start, _ in stretches if start < stop and stop - start <= view), default=stop)
