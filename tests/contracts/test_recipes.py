"""Every registered recipe keeps its contract: the loss falls, by trainable weights alone, and one seed gives one loss."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from longtake.core.errors import ConfigError
from longtake.testing.recipes import check_gradients, check_loss_falls, check_same_seed, made, short_loop
from longtake.train.interfaces import NamesScores
from longtake.train.loop import train
from longtake.train.recipe_entry import RecipeEntry
from longtake.train.recipes.registry import RECIPES, register_recipe
from longtake.train.toml_config import read_table
from longtake.train.whole_config import check_steps, read_loop

ROOT = Path(__file__).parents[2]


def quiet(line):
    pass


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls(name, tiny_parts, tmp_path):
    check_loss_falls(name, RECIPES[name], tiny_parts, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_only_trainable_weights_get_gradients(name, tiny_parts, tmp_path):
    check_gradients(name, RECIPES[name], tiny_parts, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_loss(name, tiny_parts, tmp_path):
    check_same_seed(name, RECIPES[name], tiny_parts, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_an_evaluation_gives_the_scores_that_it_names(name, tiny_parts, tmp_path):
    recipe = made(RECIPES[name], tiny_parts, tmp_path)
    if not isinstance(recipe, NamesScores):
        pytest.skip("it names no scores")
    loop = short_loop(1e-3).with_changes(eval_every=30, best_metric="-psnrr")
    with pytest.raises(ConfigError, match=r"best_metric = '-psnrr', but the evaluation gives (\w+|no scores: remove)"):
        train(recipe, loop, tmp_path, quiet)
    assert not list(tmp_path.glob("step-*")), "it was refused before the first step"
    with torch.no_grad():
        assert set(recipe.evaluate(0, tmp_path)) == set(recipe.scores())


@pytest.mark.parametrize("name", RECIPES)
def test_a_registry_line_is_complete(name):
    entry = RECIPES[name]
    assert entry.title and entry.about.endswith(".") and len(entry.about) < 90
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert callable(entry.part("make")) and entry.part("CONFIG") and callable(entry.part("tiny"))
    assert (ROOT / entry.example).is_file() and name in tomllib.loads((ROOT / entry.example).read_text())


TOML = [*sorted(ROOT.glob("examples/train/*.toml")), *sorted(ROOT.glob("bench/*.toml"))]


@pytest.mark.parametrize("path", TOML, ids=lambda path: path.stem)
def test_an_example_config_is_read_to_the_innermost_table(path):
    config = tomllib.loads(path.read_text())
    (name,) = config.keys() - {"loop"}
    table = config[name]
    check_steps(table, read_loop(config).steps, name)
    settings = read_table(RECIPES[name].part("CONFIG"), table, name)
    if RECIPES[name].wraps:
        read_table(RECIPES[settings.recipe].part("CONFIG"), settings.settings, settings.recipe)


def test_other_recipes_train_on_top_of_one_from_another_package(tiny_parts, tmp_path):
    entry = RecipeEntry("longtake.train.recipes.flow_matching", "Mine", "Trains something of mine.")
    with pytest.raises(ConfigError, match="there is a recipe called 'lora' already"):
        register_recipe("lora", entry)
    recipes, table = {**RECIPES, "mine": entry}, {"recipe": "mine", "settings": entry.part("tiny")(tiny_parts)}
    inner = RECIPES["lora"].make(table, tmp_path, recipes)
    assert inner.loss(0, torch.Generator().manual_seed(0)).total.isfinite()
