"""Image features in training equal those of the engine."""

import pytest
import torch

from longtake.models.interfaces import ContextFrames
from longtake.models.wan.image_conditioning import ImageConditioner
from longtake.planning.window import Window
from longtake.pocket import render
from longtake.train.recipes import image_to_video as i2v
from tests import released

FRAMES = 3


@pytest.fixture
def made():
    return released.parts("i2v")


@pytest.fixture
def table(made, tmp_path):
    return dict(
        init=str(released.diffusers(tmp_path / "m", made)), clips=2, source=dict(frames=9, switch=0.0), frames=FRAMES,
        length_schedule=((1.0, (FRAMES,)),), eval_prompts=0, caption_dropout=0.0, prefix=dict(counts=(1,), weights=(1.0,)),
    )  # fmt: skip


def test_they_equal_those_of_the_engine(made, table, tmp_path):
    recipe = i2v.make(table, tmp_path / "run")
    sample = recipe.draw(0, torch.Generator().manual_seed(0))
    window = Window(range(FRAMES), torch.linspace(1, 0, 3)[:, None].expand(3, FRAMES), role=["concat"] * FRAMES)
    first = [render(clip, 0, 1).frames.transpose(0, 1)[None] * 2 - 1 for clip in recipe.video.data.clips.values()]
    shown = [ImageConditioner(made.vae, made.image_encoder)(window, ContextFrames({}, frame)) for frame in first]
    (which,) = [
        n
        for n, one in enumerate(shown)
        if torch.allclose(sample.concat[:, 4:, 0], one.concat_BCFhw[:, 4:, 0], atol=5e-3)
    ]
    assert sample.image.shape == (1, 5, 14)
    assert (sample.image - shown[which].image_BLD).abs().max() < 5e-3  # half precision lies between
    assert (sample.image - shown[1 - which].image_BLD).abs().max() > 2e-2


def test_the_network_learns_from_them_and_the_finished_model_has_its_encoder(table, tmp_path):
    from longtake.models import load
    from longtake.train.loop import train
    from longtake.train.loop_config import LoopConfig

    recipe = i2v.make(table, tmp_path / "run")
    train(recipe, LoopConfig.of(steps=1, save_every=0), tmp_path / "run", lambda line: None, {"image_to_video": table})
    image = recipe.module.condition_embedder.image_embedder
    recipe.loss(0, torch.Generator().manual_seed(0)).total.backward()
    assert all(weight.grad.abs().max() > 0 for weight in image.parameters())
    model = load(tmp_path / "run" / "model")
    assert model.limits.conditioning == "concat" and (tmp_path / "run" / "model" / "image_encoder").is_dir()


def test_a_missing_image_encoder_is_refused(table, tmp_path):
    (tmp_path / "m" / "image_encoder").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="set `image_encoder`"):
        i2v.make(table, tmp_path / "run")
    assert (
        i2v.make({**table, "image_encoder": str(tmp_path / "elsewhere")}, tmp_path / "run").video.parts.image_encoder
        is not None
    )
