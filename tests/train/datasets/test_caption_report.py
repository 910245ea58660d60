"""Captions that a text encoder reads in part are reported before a training run."""

from typing import Any, cast

from longtake.models.encoders.t5 import T5Encoder
from longtake.models.encoders.word_text import WordText
from longtake.train.datasets.caption_report import report_captions
from tests import released


def test_captions_that_are_cut_off_are_reported():
    text = WordText(T5Encoder(released.WORDS), released.tokenizer(), 12)
    captions = ["a red ball", "a red ball rolls over the hill and then the ball is red and the hill is a ball", ""]

    class Clips:
        def __len__(self):
            return len(captions)

        def all_captions(self, number):
            return [(0, captions[number])]

    lines: list[str] = []
    report_captions(cast(Any, Clips()), text, lines.append)
    rest = text.cut_off(captions[1])
    assert rest and any("1 captions are longer" in line and line.endswith(rest) for line in lines)
    assert lines[-1] == "some clips have no caption and train the unconditional branch only"
