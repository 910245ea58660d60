"""Teacher forcing of a block-causal network: every block is noisy once and attends to clean blocks before it.

One call of the network holds the video twice: clean frames, then noisy ones. So it trains every block under what the
network meets block by block: keys and values of clean frames that attended only to what came before them (as in CausVid
and Self-Forcing).
"""

from __future__ import annotations

from collections.abc import Sequence

from longtake.models.layers import Span, runs


def banded(blocks: Sequence[int], view: int) -> list[Span]:
    """Return attention spans, in frames, of a block-causal window with a bounded view.

    Every block attends to itself and to as many earlier blocks as fit with it in a view of `view` frames, as with a
    key/value cache that drops the oldest entries. blocks: the block of each frame (F,).
    """
    stretches = [(start, stop) for _, start, stop in runs(blocks)]
    return [Span(start, stop, ((_oldest(stretches, stop, view), stop),)) for start, stop in stretches]


def teacher_spans(blocks: Sequence[int], view: int) -> list[Span]:
    """Return attention spans of a call of 2 F frames: F clean ones (`banded`), then F noisy ones.

    Each noisy block attends to the clean blocks before it that fit in the view, and to itself.
    """
    clean, frames = banded(blocks, view), len(blocks)
    noisy = []
    for span in clean:
        own = (frames + span.start, frames + span.stop)
        first = span.attends[0][0]
        noisy.append(Span(*own, ((first, span.start), own) if first < span.start else (own,)))
    return [*clean, *noisy]


def _oldest(stretches: Sequence[tuple[int, int]], stop: int, view: int) -> int:
    """Return the first frame of the oldest block that fits in a view of `view` frames which ends at `stop`."""
    return min((start for start, _ in stretches if start < stop and stop - start <= view), default=stop)
