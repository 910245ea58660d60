"""What a text encoder does not read of a prompt is said: in Python as a warning, and for negative and empty prompts too."""

import warnings
from dataclasses import replace

import pytest
import torch

import longtake
from longtake.cli import run
from longtake.core.guidance_settings import Guidance
from longtake.core.process.notices import InputWarning
from longtake.models import load
from longtake.models.encoders.t5 import T5Encoder
from longtake.models.encoders.umt5 import UmT5Text
from longtake.models.encoders.word_text import WordText
from longtake.models.model import SamplingDefaults
from longtake.models.toy.clock import clock
from longtake.planning.script import Scene
from tests import released


def said(prompt, model, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        next(iter(longtake.generate(prompt, model, num_frames=5, num_inference_steps=1, **options)))
    return [str(one.message) for one in caught if one.category is InputWarning]


def test_the_words_behind_the_length_are_named():
    """The end that is named is exactly what can be changed without any effect, and nothing before it can."""
    net = T5Encoder(released.WORDS)
    for text in (UmT5Text(net, released.tokenizer(), 24), WordText(net, released.tokenizer(), 24)):
        prompt = "a red ball rolls over the hill, " * 5
        rest = text.cut_off(prompt)
        kept = prompt.strip().removesuffix(rest)
        assert rest and kept + rest == prompt.strip()
        assert torch.equal(text.encode([prompt]), text.encode([kept + "a blue dog sleeps at night"]))
        assert text.cut_off(kept) == "" and not torch.equal(text.encode([prompt]), text.encode([kept[:-8]]))
        assert text.cut_off("a red ball") == "" == text.cut_off("")


def test_pocket_says_what_it_cuts_off_and_does_not_know():
    pocket = load("pocket")
    assert said("a large red star bounces over the sea", pocket) == []
    long = "a large red star bounces over the sea and " * 4 + "then a small blue ball spins"
    (cut,) = said(long, pocket)
    assert "is longer than pocket reads: these words are cut off" in cut and cut.endswith(
        "then a small blue ball spins"
    )
    (unknown,) = said("a red zebra spins", pocket, negative_prompt="a blue dragon")[:1]
    assert "these words of the prompt 'a red zebra spins': zebra. Say a colour" in unknown
    found = said("a red ball spins", pocket, negative_prompt="a blue dragon")
    assert len(found) == 1 and "the negative prompt 'a blue dragon': dragon" in found[0]


def test_the_command_line_prints_a_note(capsys):
    assert run(["generate", "a red zebra spins", "--num-frames", "5", "--steps", "1", "--dry-run"]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "zebra" in notes[0]


@pytest.mark.parametrize("prompt", ["", " ", [Scene("")]])
def test_an_empty_prompt_is_allowed(prompt):
    assert said(prompt, load("pocket")) == []
    guided = replace(clock(), defaults=SamplingDefaults(guidance=Guidance(scale=(3.0,))))
    assert said(prompt, guided) == []
    assert "may not have been trained without captions" in said(prompt, clock())[0]
