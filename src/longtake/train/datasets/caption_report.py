"""What a text encoder does not read of the captions of a training run, reported before it starts."""

from __future__ import annotations

from collections.abc import Callable

from longtake.models.interfaces import TextEncoder
from longtake.train.datasets.footage import Footage


def report_captions(footage: Footage, text: TextEncoder, report: Callable[[str], None]) -> None:
    """Report missing captions, those that are longer than the text encoder reads, and words that it does not know."""
    captions = {words for number in range(len(footage)) for _, words in footage.all_captions(number)}
    if unknown := sorted({word for caption in captions for word in text.unknown(caption)}):
        report(f"the text encoder does not know {len(unknown)} words of the captions: {', '.join(unknown[:8])}")
    if cut := [caption for caption in sorted(captions) if text.cut_off(caption)]:
        report(
            f"{len(cut)} captions are longer than the text encoder reads, such as {cut[0][:60]!r}, of which these words are "
            f"cut off: {text.cut_off(cut[0])[:200]}"
        )
    if "" in captions:
        report("some clips have no caption and train the unconditional branch only")
