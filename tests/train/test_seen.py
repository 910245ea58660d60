"""A network that is shown images through CLIP is shown in training what the engine shows it."""

import pytest
import torch

from longtake.models.base import Past
from longtake.models.wan_image import Teller
from longtake.plan import Window
from longtake.train.recipes import i2v
from longtake.world import render
from tests import released

FRAMES = 3


@pytest.fixture
def made():
    return released.parts("i2v")


@pytest.fixture
def table(made, tmp_path):
    return dict(
        init=str(released.diffusers(tmp_path / "m", made)), clips=2, source=dict(frames=9, switch=0.0), frames=FRAMES,
        lengths=((1.0, (FRAMES,)),), judged=0, drop=0.0, given=dict(counts=(1,), weights=(1.0,)),
    )  # fmt: skip


def test_it_is_what_the_engine_shows(made, table, tmp_path):
    recipe = i2v.make(table, tmp_path / "run")
    sample = recipe.draw(0, torch.Generator().manual_seed(0))
    window = Window(range(FRAMES), torch.linspace(1, 0, 3)[:, None].expand(3, FRAMES), role=["beside"] * FRAMES)
    first = [render(clip, 0, 1).frames.transpose(0, 1)[None] * 2 - 1 for clip in recipe.video.data.clips.values()]
    shown = [Teller(made.codec, made.eyes)(window, Past({}, frame)) for frame in first]
    (which,) = [
        n
        for n, told in enumerate(shown)
        if torch.allclose(sample.beside[:, 4:, 0], told.beside_BCFhw[:, 4:, 0], atol=5e-3)
    ]
    assert sample.image.shape == (1, 5, 14)
    assert (sample.image - shown[which].image_BLD).abs().max() < 5e-3  # half precision lies between
    assert (sample.image - shown[1 - which].image_BLD).abs().max() > 2e-2


def test_the_network_learns_from_it_and_the_finished_model_has_its_encoder(table, tmp_path):
    from longtake.models import load
    from longtake.train.loop import Settings, train

    recipe = i2v.make(table, tmp_path / "run")
    train(recipe, Settings(steps=1, save=0), tmp_path / "run", lambda line: None, {"i2v": table})
    image = recipe.module.condition_embedder.image_embedder
    recipe.loss(0, torch.Generator().manual_seed(0)).total.backward()
    assert all(weight.grad.abs().max() > 0 for weight in image.parameters())
    model = load(tmp_path / "run" / "model")
    assert model.limits.context == "beside" and (tmp_path / "run" / "model" / "image_encoder").is_dir()


def test_without_its_encoder_it_is_refused(table, tmp_path):
    (tmp_path / "m" / "image_encoder").rename(tmp_path / "eyes")
    with pytest.raises(ValueError, match="give `image_encoder`"):
        i2v.make(table, tmp_path / "run")
    assert i2v.make({**table, "image_encoder": str(tmp_path / "eyes")}, tmp_path / "run").video.eyes is not None
