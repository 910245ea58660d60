"""The built-in models: small enough for the package, whole, and each does what its kind is for."""

import pytest
import torch

from longtake.api import generate
from longtake.eval.pocket import psnr, unseen_prompts
from longtake.models import builtin, load
from longtake.train.export import LIMIT


@pytest.mark.parametrize("name", builtin())
def test_it_fits_into_the_package(name):
    files = [path for path in builtin()[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT
    assert not [path for path in files if path.suffix not in (".json", ".safetensors")]


def test_one_makes_video_block_by_block():
    model = load("pocket-causal")
    assert model.limits.causal and model.limits.block == 5 and model.plan == "blocks"
    frames = torch.cat(list(generate(model, "a red circle moves left at night", seconds=2, steps=3)))
    assert frames.shape == (48, 64, 64, 3)
    dark = frames[:, :8].float().mean()
    light = torch.cat(list(generate(model, "a red circle moves left in the snow", seconds=2, steps=3)))[:, :8]
    assert dark < 80 < light.float().mean(), "the sky is as told"


def test_one_begins_with_the_picture_that_it_is_given():
    model, prompts = load("pocket-i2v"), unseen_prompts(2, 7)
    truth = [prompt.rendered(1)[0] for prompt in prompts]
    for number, prompt in enumerate(prompts):
        ask = prompt.briefly().asked(model, frames=25)
        first = next(iter(generate(model, ask.script, seconds=25 / 24, seed=1, image=ask.image, steps=4)))[0]
        made = first.permute(2, 0, 1) / 255
        assert psnr(made, truth[number]) > psnr(made, truth[1 - number]) + 6
