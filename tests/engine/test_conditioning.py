"""Conditioning of a window: prompts by frame or by window, cached; control signals by output frame."""

from dataclasses import replace

import pytest
import torch

from longtake.engine.conditioning import Conditioner, PromptCache
from longtake.engine.control import ControlSignal
from longtake.models.toy.clock import clock
from longtake.planning.script import Scene, Script
from longtake.planning.window import Window

SCRIPT = Script.of([Scene("a", 1.0), Scene("b", 1.0)], 24)
VIEW = Window(range(4), torch.tensor([[1.0] * 4, [0.0] * 4]))


class Encoder:
    """Embeds a prompt as its length, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def encode(self, prompts):
        self.asked += prompts
        return torch.tensor([[[float(len(prompt))]] for prompt in prompts])


@pytest.fixture
def encoder():
    return Encoder()


def conditioner(encoder, **options) -> Conditioner:
    return Conditioner(clock(4), PromptCache(encoder, 2), "bad", 12.0, **options)


def test_a_window_follows_the_scene_of_its_first_new_frame(encoder):
    cond = conditioner(encoder).for_window(VIEW, SCRIPT, clip_first=16, new=[2, 3])
    assert [text.key for text in cond.texts] == ["a"] and cond.scene == (0, 0, 0, 0) and cond.fps == 12.0
    assert cond.texts[0].embedding.shape == (2, 1, 1), "one row per video of the batch"
    cond = conditioner(encoder).for_window(VIEW, SCRIPT, clip_first=16, new=[3])
    assert [text.key for text in cond.texts] == ["b"], "latent 3 shows output frames 25 to 28"


def test_a_window_with_a_prompt_per_frame_follows_both_scenes(encoder):
    cond = conditioner(encoder).for_window(replace(VIEW, text="frame"), SCRIPT, clip_first=16, new=[0])
    assert [text.key for text in cond.texts] == ["a", "b"] and cond.scene == (0, 0, 0, 1)


def test_prompts_are_encoded_once_while_they_are_used(encoder):
    made = conditioner(encoder)
    for first in (0, 4, 30, 34, 0):
        made.for_window(VIEW, SCRIPT, clip_first=first, new=[0])
    assert encoder.asked == ["a", "b", "a"]
    assert made.negative is made.negative and encoder.asked[-1] == "bad"


def test_a_control_signal_is_sliced_by_output_frame(encoder):
    signal = ControlSignal(torch.arange(40.0)[:, None])
    cond = conditioner(encoder, control=signal).for_window(VIEW, SCRIPT, clip_first=8, new=[0])
    assert cond.control.shape == (4, 4, 1)
    assert cond.control[0, :, 0].tolist() == [8, 8, 8, 8] and cond.control[3, :, 0].tolist() == [17, 18, 19, 20]
