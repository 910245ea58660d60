"""The networks of the configs in examples/train and bench can be made, from their tables or from the models they name."""

import tomllib
from pathlib import Path

import pytest
import torch

from longtake.models import builtin
from longtake.models.encoders.t5 import T5Config, T5Encoder
from longtake.models.ltx.presets import LTX
from longtake.train.multi_resolution.memory_estimate import shapes_without_weights
from longtake.train.recipes import text_encoder
from longtake.train.recipes.registry import RECIPES
from longtake.train.toml_config import read_table
from longtake.train.weights.families import training_hooks
from longtake.train.weights.init_weights import network
from longtake.train.weights.model_card import ModelCard, model_card

ROOT = Path(__file__).parents[2]
EXAMPLES = [*sorted(ROOT.glob("examples/train/*.toml")), *sorted(ROOT.glob("bench/*.toml"))]


def new_network(name, settings):
    """The network that a recipe trains from random weights, on the meta device."""
    if name == "text_encoder":
        return T5Encoder(read_table(T5Config, {"vocab_size": 9, **(settings.network or text_encoder.SMALL)}, "network"))
    if name == "vae":
        hooks = training_hooks(settings.family)
        return hooks.vae.make(read_table(hooks.vae.config, settings.network or hooks.vae.default, "network"))
    part = training_hooks("ltx" if name == "multi_resolution" else "wan").transformer
    return part.make(read_table(part.config, settings.network, "network"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_network_of_an_example_can_be_made(path):
    config = tomllib.loads(path.read_text())
    (name,) = config.keys() - {"loop"}
    settings = read_table(RECIPES[name].part("CONFIG"), config[name], name)
    if RECIPES[name].wraps:
        name = settings.recipe
        settings = read_table(RECIPES[name].part("CONFIG"), settings.settings, name)
    model_card(ModelCard(), getattr(settings, "card", {}), "card")
    init = getattr(settings, "init", "")
    if init in LTX:
        net = shapes_without_weights(init, settings.vae, settings.text, settings.network, "network").network
        assert net.num_layers == 28  # an estimate needs no more
    elif init in builtin():
        lines = []
        assert network(settings.network, init, lines.append)[1] is not None
        assert lines[0].startswith(f"started from {init}: loaded all ")
    elif init and name != "vae":
        assert not settings.network  # it starts from a run that is not here
    else:
        with torch.device("meta"):
            assert sum(weight.numel() for weight in new_network(name, settings).parameters())
