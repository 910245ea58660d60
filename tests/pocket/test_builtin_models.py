"""The built-in models fit into the package and load, and each generates video in its own way."""

import pytest
import torch

from longtake.eval.pocket_benchmark import psnr
from longtake.eval.pocket_prompts import unseen_prompts
from longtake.models import builtin, load
from longtake.pipelines.generate import generate
from longtake.train.weights.export import LIMIT


@pytest.mark.parametrize("name", builtin())
def test_a_built_in_model_fits_into_the_package(name):
    files = [path for path in builtin()[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT
    assert not [path for path in files if path.suffix not in (".json", ".safetensors")]


def test_the_causal_model_generates_block_by_block():
    model = load("pocket-causal")
    assert model.limits.causal and model.limits.block == 5 and model.defaults.strategy == "blocks"
    frames = torch.cat(list(generate("a red circle moves left at night", model, seconds=2, steps=3)))
    assert frames.shape == (48, 64, 64, 3)
    dark = frames[:, :8].float().mean()
    light = torch.cat(list(generate("a red circle moves left in the snow", model, seconds=2, steps=3)))[:, :8]
    assert dark < 80 < light.float().mean(), "the sky follows the prompt"


def test_the_image_to_video_model_starts_from_its_image():
    model, prompts = load("pocket-i2v"), unseen_prompts(2, 7)
    truth = [prompt.rendered(1)[0] for prompt in prompts]
    for number, prompt in enumerate(prompts):
        request = prompt.briefly().request(model, frames=25)
        first = next(iter(generate(request.script, model, seconds=25 / 24, seed=1, image=request.image, steps=4)))[0]
        frame = first.permute(2, 0, 1) / 255
        assert psnr(frame, truth[number]) > psnr(frame, truth[1 - number]) + 6
