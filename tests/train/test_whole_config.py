"""Overrides from the command line, keys of other tables and trainers, and what the help says of every key."""

import pytest

from longtake.core.errors import ConfigError
from longtake.core.flat_config import places
from longtake.core.other_names import TRAINING
from longtake.train.config_keys import keys_of_training
from longtake.train.loop import run
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.whole_config import with_changes

CONFIG = {
    "loop": {"steps": 200, "lr": 1e-3},
    "lora": {"rank": 8, "settings": {"steps": 200, "frames": 75, "source": {"switch": 0.3}}},
}


@pytest.mark.parametrize(
    "text, where, value",
    [
        ("loop.lr=1e-4", ("loop", "lr"), 1e-4),
        ("lr = .5", ("loop", "lr"), 0.5),
        ("rank=16", ("lora", "rank"), 16),
        ("lora.settings.frames=9", ("lora", "settings", "frames"), 9),
        ("settings.source.switch=0", ("lora", "settings", "source", "switch"), 0),
        ("loop.optimiser=muon", ("loop", "optimiser"), "muon"),
        ("loop.tensorboard=true", ("loop", "tensorboard"), True),
        ('lora.targets=["to_q", "to_k"]', ("lora", "targets"), ["to_q", "to_k"]),
        ("lora.settings.init=out/my model", ("lora", "settings", "init"), "out/my model"),
        ("lora.settings.card={name = 'mine'}", ("lora", "settings", "card"), {"name": "mine"}),
    ],
)
def test_a_change_of_the_command_line_replaces_one_key(text, where, value):
    changed = with_changes(CONFIG, "lora", [text])
    found = changed
    for name in where:
        found = found[name]
    assert found == value and type(found) is type(value)
    assert CONFIG["loop"]["lr"] == 1e-3 and CONFIG["lora"]["settings"]["frames"] == 75, "the file's config is unchanged"


@pytest.mark.parametrize(
    "given", [dict(changes=[], steps=5), dict(changes=["loop.steps=5"]), dict(changes=["steps=5"])]
)
def test_the_steps_of_a_run_are_set_wherever_the_config_says_them(given):
    changed = with_changes(CONFIG, "lora", **given)
    assert changed["loop"]["steps"] == 5 == changed["lora"]["settings"]["steps"]
    assert with_changes({}, "vae", [], 5) == {"loop": {"steps": 5}}


@pytest.mark.parametrize("text", ["loop.lr", "=3", "loop..lr=3"])
def test_a_change_without_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="it must be a key and its value, such as"):
        with_changes(CONFIG, "lora", [text])


def test_a_change_inside_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"--set loop\.lr\.x=1: loop\.lr is a value, not a table"):
        with_changes(CONFIG, "lora", ["loop.lr.x=1"])


@pytest.mark.parametrize(
    "recipe, table, key, message",
    [
        ("text_encoder", "loop", "learning_rate", r"\[loop\] has no key 'learning_rate': it is lr here"),
        ("text_encoder", "loop", "max-train-steps", r"\[loop\] has no key 'max-train-steps': it is steps here"),
        ("text_encoder", "text_encoder", "lr", r"\[text_encoder\] has no key 'lr': lr is a key of the table \[loop\]"),
        ("lora", "lora", "learning_rate", r"\[lora\] has no key 'learning_rate': lr is a key of the table \[loop\]"),
        ("lora", "loop", "lora_rank", r"\[loop\] has no key 'lora_rank': rank is a key of the table \[lora\]"),
        ("lora", "lora", "lora_alpha", r"\[lora\] has no key 'lora_alpha': it is alpha here"),
        ("lora", "lora", "settings", r"\[lora\] settings is 1; it should be a table"),
    ],
)
def test_a_key_of_another_trainer_or_table_is_answered_with_the_one_here(recipe, table, key, message, tmp_path):
    config = {"loop": {"steps": 1}, recipe: {}}
    config[table][key] = 1
    with pytest.raises(ConfigError, match=message):
        run(recipe, config, tmp_path / "out", RECIPES)
    assert not (tmp_path / "out").exists()


def test_a_config_of_another_recipe_is_named_as_such(tmp_path):
    config = {"loop": {"steps": 1}, "diffusion_forcing": {}}
    with pytest.raises(
        ConfigError, match=r"this is a config of the recipe diffusion_forcing.*`longtake train diffusion_"
    ):
        run("lora", config, tmp_path, RECIPES)


def test_no_name_of_another_trainer_stands_for_two_keys():
    others = [other for names in TRAINING.values() for other in names.split()]
    assert len(others) == len(set(others))
    known = {
        key for entry in RECIPES.values() for group in keys_of_training("x", entry.part("CONFIG")) for key in group.keys
    }
    assert set(TRAINING) <= {key.name for key in known}


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_says_of_every_key_what_it_means(recipe):
    config, groups = RECIPES[recipe].part("CONFIG"), list(keys_of_training(recipe, RECIPES[recipe].part("CONFIG")))
    listed = [key.name for group in groups if group.table == recipe for key in group.keys]
    assert listed == list(places(config))
    assert {key.name for group in groups if group.table == "loop" for key in group.keys} == set(places(LoopConfig))
    silent = [f"[{group.table}] {key.name}" for group in groups for key in group.keys if len(key.meaning) < 8]
    assert not silent, "a docstring says nothing of these keys"
