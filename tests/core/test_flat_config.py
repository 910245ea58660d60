"""Configs in groups: one flat table of keys, whatever the groups."""

import json
from dataclasses import dataclass, field

import pytest

from longtake.core.flat_config import from_flat, group, keyed, places, to_flat
from longtake.models.checkpoints.configs import configure
from longtake.models.ltx.vae_config import LTX_095, LTXVAEConfig
from longtake.models.wan.config import WanConfig
from longtake.train.loop_config import LoopConfig
from longtake.train.toml_config import read_table


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = keyed("inner_sizes", (1, 2))
    rate: float = 0.5


@dataclass(frozen=True)
class Apart:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = group(Inner)
    apart: Apart = field(default_factory=Apart)


def test_keys_of_a_group_stand_beside_the_others():
    assert list(places(Outer)) == ["steps", "inner_sizes", "rate", "apart"]
    assert [name for name, place in places(Outer).items() if place.required] == ["steps"]
    made = from_flat(Outer, {"steps": 3, "inner_sizes": (4,)})
    assert made == Outer(3, Inner((4,)))
    assert to_flat(made) == {"steps": 3, "inner_sizes": (4,), "rate": 0.5, "apart": {"depth": 1}}


def test_a_missing_or_unknown_key_is_an_error():
    with pytest.raises(TypeError, match="steps"):
        from_flat(Outer, {"rate": 1.0})
    with pytest.raises(KeyError, match="sizes"):
        from_flat(Outer, {"steps": 1, "sizes": (1,)})


@pytest.mark.parametrize(
    "config", [LTX_095, LTXVAEConfig(), WanConfig(), LoopConfig.of(steps=2, lr=0.5, shard="zero2")]
)
def test_a_config_is_read_as_it_was_written(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_flat(config)))
    assert configure(type(config), tmp_path) == config
    assert read_table(type(config), to_flat(config), "table") == config
