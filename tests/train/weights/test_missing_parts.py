"""What a config names and is not there is answered with the command that makes it."""

import re

import pytest

from longtake.core.errors import ConfigError
from longtake.models import builtin
from longtake.train.recipes.registry import RECIPES
from longtake.train.weights.init_weights import find_init_weights
from longtake.train.weights.missing_parts import TRAINERS, given_text_encoder, given_vae


def test_a_missing_part_says_which_command_trains_it(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(f"longtake train vae examples/train/vae.toml -o {tmp_path}`")):
        given_vae(str(tmp_path / "vae"))
    words = f'-o {tmp_path / "mine"}`, and set vae = "{tmp_path / "mine" / "vae"}"'
    with pytest.raises(ConfigError, match=re.escape(words)):
        given_vae(str(tmp_path / "mine"))
    with pytest.raises(ConfigError, match=r"there is no .*text_encoder.*; .* `longtake train text_encoder examples/"):
        given_text_encoder(str(tmp_path))
    pocket = builtin()["pocket"]
    assert given_vae(str(pocket / "vae")) == pocket / "vae" and given_text_encoder(str(pocket)) == pocket


def test_the_commands_are_those_of_the_registry():
    every = {entry.title: f"{name} {entry.example}" for name, entry in RECIPES.items()}
    assert {every["VAE"], every["Text encoder"]} == set(TRAINERS.values())


def test_a_run_without_weights_yet_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"nor a run with a checkpoint: there is no folder .*nothing"):
        find_init_weights(str(tmp_path / "nothing"))
    for name in ("config.json", "log.jsonl"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="let `longtake train` run until its first checkpoint"):
        find_init_weights(str(tmp_path))
