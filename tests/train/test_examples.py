"""The configs in examples/train and bench are ones that the recipes read, to the innermost key."""

import tomllib
from pathlib import Path

import pytest
import torch

from longtake.models import builtin
from longtake.models.ltx_presets import LTX
from longtake.models.text import T5Config, T5Encoder
from longtake.train.config import read_table
from longtake.train.data import Source
from longtake.train.dry import shapes
from longtake.train.export import Card, card_of
from longtake.train.family import FAMILIES
from longtake.train.footage import FootageConfig
from longtake.train.history import OwnHistory
from longtake.train.levels import Mixture
from longtake.train.loop import check_steps, read_settings
from longtake.train.mixed import Drawing, Given
from longtake.train.recipes import RECIPES, codec, text
from longtake.train.recipes.causal import CausalConfig
from longtake.train.recipes.codec import CodecConfig
from longtake.train.recipes.distil import DistilConfig
from longtake.train.recipes.flow import FlowConfig
from longtake.train.recipes.forcing import ForcingConfig
from longtake.train.recipes.i2v import I2vConfig
from longtake.train.recipes.lora import LoraConfig
from longtake.train.recipes.mixed import MixedConfig
from longtake.train.recipes.recycle import RecycleConfig
from longtake.train.recipes.text import TextConfig
from longtake.train.start import network
from longtake.train.told import Givens

CONFIGS = {
    "codec": CodecConfig, "text": TextConfig, "flow": FlowConfig, "forcing": ForcingConfig, "causal": CausalConfig,
    "i2v": I2vConfig, "distil": DistilConfig, "lora": LoraConfig, "recycle": RecycleConfig, "mixed": MixedConfig,
}  # fmt: skip
INSIDE = {"source": Source, "footage": FootageConfig, "mixture": Mixture, "own": OwnHistory, "given": Givens}
MIXED = {"footage": FootageConfig, "drawing": Drawing, "given": Given}
ROOT = Path(__file__).parents[2]
EXAMPLES = [*sorted(ROOT.glob("examples/train/*.toml")), *sorted(ROOT.glob("bench/*.toml"))]


def begun(name, settings):
    """The network that a recipe begins from nothing, without weights."""
    if name == "text":
        return T5Encoder(read_table(T5Config, {"vocab_size": 9, **(settings.network or text.SMALL)}, "network"))
    if name == "codec":
        part = FAMILIES[settings.family].codec
        return part.make(read_table(part.config, settings.network or codec.SMALL, "network"))
    part = FAMILIES["ltx" if name == "mixed" else "wan"].network
    return part.make(read_table(part.config, settings.network, "network"))


def test_every_recipe_has_a_config():
    assert set(CONFIGS) == set(RECIPES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read(path):
    config = tomllib.loads(path.read_text())
    (name,) = config.keys() - {"loop"}
    table = config[name]
    check_steps(table, read_settings(config).steps, name)
    settings = read_table(CONFIGS[name], table, name)
    if "settings" in table:
        assert settings.recipe in RECIPES
        name, table = settings.recipe, table["settings"]
        settings = read_table(CONFIGS[name], table, name)
    for inside, kind in (MIXED if name == "mixed" else INSIDE).items():
        read_table(kind, getattr(settings, inside, {}) or {}, inside)
    card_of(Card(), getattr(settings, "card", {}), "card")
    if getattr(settings, "init", "") in LTX:
        assert shapes(settings)[0].num_layers == 28  # a dry run needs no more
    elif getattr(settings, "init", "") in builtin():
        lines = []
        assert network(settings.network, settings.init, lines.append)[1] is not None
        assert lines[0].startswith(f"started from {settings.init}: all ")
    elif getattr(settings, "init", ""):
        assert not settings.network  # of a run that is not here
    else:
        with torch.device("meta"):
            assert sum(weight.numel() for weight in begun(name, settings).parameters())
