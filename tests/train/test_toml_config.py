"""A config is read strictly: what is unknown, of the wrong type, missing or changed is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from longtake.train.loop import run
from longtake.train.loop_config import LoopConfig
from longtake.train.recipes.registry import RECIPES
from longtake.train.toml_config import ConfigError, changes, read_table
from longtake.train.whole_config import check_steps


@dataclass(frozen=True)
class Oven:
    degrees: int
    name: str = ""
    heat: Literal["top", "bottom"] = "top"
    minutes: float | None = None
    racks: Sequence[int] = ()
    pans: Sequence[Sequence[float]] = ()
    fan: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.degrees > 300:
            raise ValueError("degrees must stay below 300")


@dataclass(frozen=True)
class Kitchen:
    oven: Oven
    second: Oven | None = None


def test_a_table_becomes_a_dataclass():
    assert read_table(Oven, {"degrees": 200, "minutes": 5}, "oven") == Oven(200, minutes=5)
    assert read_table(Oven, {"degrees": 200, "pans": [[1, 2.5]]}, "oven") == Oven(200, pans=[[1, 2.5]])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"degrees": 1, "nmae": ""}, r"\[oven\] has no key 'nmae': did you mean name\?"),
        ({"degrees": 1, "zzz": ""}, r"\[oven\] has no key 'zzz': the keys are: degrees, name"),
        ({"degrees": "hot"}, "degrees is 'hot'; it should be a whole number"),
        ({"degrees": True}, "should be a whole number"),
        ({"degrees": 1, "heat": "left"}, 'should be "top" or "bottom"'),
        ({"degrees": 1, "racks": 2}, "racks is 2; it should be a list, each a whole number"),
        ({"degrees": 1, "racks": [2, 0.5]}, "should be a list, each a whole number"),
        ({"degrees": 1, "pans": [1.0]}, "should be a list, each a list, each a finite number"),
        ({"degrees": 1, "fan": 3}, "fan is 3; it should be a table"),
        ({"name": "a"}, "has no degrees, and there is no default"),
        ({"degrees": 400}, r"\[oven\] degrees must stay below 300"),
    ],
)
def test_wrong_keys_and_values_are_named(table, words):
    with pytest.raises(ConfigError, match=words):
        read_table(Oven, table, "oven")


def test_the_steps_of_a_recipe_are_those_of_the_run(tmp_path):
    for recipe, table, name in [
        ("diffusion_forcing", {"steps": 7}, "diffusion_forcing"),
        ("error_recycling", {"settings": {"steps": 7}}, "error_recycling.settings"),
        ("lora", {"settings": {"settings": {"steps": 7}}}, "lora.settings.settings"),
    ]:
        with pytest.raises(ConfigError, match=rf"\[{name}\] steps is 7, and \[loop\] steps is 9: both count"):
            run(recipe, {"loop": {"steps": 9}, recipe: table}, tmp_path / recipe, RECIPES)
        assert not (tmp_path / recipe).exists()
        check_steps(table, 7, recipe)
    check_steps({"steps": 0, "card": {"steps": 30}}, 9, "flow_matching")


def test_changes_are_listed_key_by_key():
    old = {"loop": {"lr": 0.1, "steps": 5}, "line": {"net": {"width": 3}, "sizes": [1, 2]}}
    new = {"loop": {"lr": 0.2, "steps": 9}, "line": {"net": {"width": 3, "max_sigma": 2}, "sizes": (1, 2)}}
    assert changes(old, new, free=lambda key: key == "loop.steps") == [
        "line.net.max_sigma was not set, now 2",
        "loop.lr was 0.1, now 0.2",
    ]
    assert changes(old, old) == []


def test_a_field_that_is_a_dataclass_reads_a_table_of_its_own():
    assert read_table(Kitchen, {"oven": {"degrees": 200}}, "kitchen") == Kitchen(Oven(200))
    assert read_table(Kitchen, {"oven": {"degrees": 200}, "second": {"degrees": 90}}, "kitchen").second == Oven(90)
    with pytest.raises(ConfigError, match=r"\[kitchen\.second\] has no key 'dgrees': did you mean degrees"):
        read_table(Kitchen, {"oven": {"degrees": 200}, "second": {"dgrees": 90}}, "kitchen")
    with pytest.raises(ConfigError, match=r"\[kitchen\] oven is 3; it should be a table"):
        read_table(Kitchen, {"oven": 3}, "kitchen")


@pytest.mark.parametrize("wrong", [
    {"lr": float("inf")}, {"lr": float("nan")}, {"lr": -1.0}, {"lr": 0.0}, {"lr": 1e23}, {"grad_clip": 0.0}, {"ema": 1.0},
    {"ema": float("nan")}, {"decay": 2.0}, {"weight_decay": -1.0}, {"steps": 1e23}, {"steps": True}, {"seed": 1.5},
])  # fmt: skip
def test_numbers_that_nothing_can_be_trained_with_are_refused(wrong):
    with pytest.raises(ConfigError, match=min(wrong)):
        read_table(LoopConfig, {"steps": 10, **wrong}, "loop")
