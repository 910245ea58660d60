"""Registries: built-in lines, lines of other packages, lazy imports, and errors that name the nearest line."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from longtake.cli.app import Command
from longtake.core import registry
from longtake.core.errors import InputError, PlanError
from longtake.core.registry import Registry, load_object, suggestion
from longtake.metrics.interfaces import Metric
from longtake.models.family import Family
from longtake.planning.strategies.registry import Strategy
from longtake.train.recipe_entry import RecipeEntry


def entry_points(monkeypatch, *points: tuple[str, str]) -> None:
    """Pretend that installed packages have these entry points."""
    found = [EntryPoint(name, value, "longtake.tests") for name, value in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in found if p.group == group])


def test_a_registry_reads_like_a_dict():
    numbers = Registry("number", int, {"one": 1, "two": 2})
    assert list(numbers) == ["one", "two"] and len(numbers) == 2 and dict(numbers) == {"one": 1, "two": 2}
    assert numbers["one"] == 1 and "two" in numbers and "three" not in numbers and numbers.get("three") is None


def test_a_line_is_imported_when_it_is_first_used():
    sys.modules.pop("this", None)
    found = Registry("verse", lines={"zen": "this:s"})
    assert list(found) == ["zen"] and "this" not in sys.modules
    assert found["zen"].startswith("Gur Mra") and "this" in sys.modules
    assert load_object("math:pi") == pytest.approx(3.14159, abs=1e-5)


def test_an_unknown_name_names_the_nearest():
    numbers = Registry("number", int, {"one": 1, "two": 2}, error=PlanError)
    with pytest.raises(PlanError, match="no number called 'tow': did you mean 'two'"):
        numbers["tow"]
    assert suggestion("zzz", ["a", "b"]) == "choose one of a, b"


def test_a_program_registers_its_own_lines():
    numbers = Registry("number", int, {"one": 1})
    numbers.register("three", 3)
    assert numbers["three"] == 3 and list(numbers) == ["one", "three"]
    with pytest.raises(InputError, match="called 'one' already"):
        numbers.register("one", 11)


def test_other_packages_register_lines_by_entry_points(monkeypatch):
    entry_points(monkeypatch, ("four", "math:pi"), ("broken", "no_such_package:X"), ("word", "string:digits"))
    numbers = Registry("number", float, {"one": 1.0}, group="longtake.tests")
    assert list(numbers) == ["one", "four", "broken", "word"] and numbers["four"] > 3
    with pytest.raises(InputError, match=r"number 'broken' cannot be imported from no_such_package:X: No module"):
        numbers["broken"]
    with pytest.raises(InputError, match="string:digits is a str, not a float"):
        numbers["word"]


@pytest.mark.parametrize("use", [
    lambda: Metric("Noise", "", "", 1.0, "no_such_package").drift((), ()),
    lambda: Metric("Noise", "", "", 1.0, "math").drift((), ()),
    lambda: Family("mine", "Mine", "", {"open": "models:open"}, package="no_such_package").get("open"),
    lambda: Family("mine", "Mine", "", {"open": "nothing"}, package="math").get("open"),
    lambda: RecipeEntry("no_such_package", "Mine", "").part("CONFIG"),
    lambda: RecipeEntry("math", "Mine", "").make({}, Path(), {}),
    lambda: Strategy("no_such_package:Planner", "Mine", "").options(),
    lambda: Command("Mine", "", home="no_such_package:run").function("mine"),
])  # fmt: skip
def test_a_reference_of_a_plug_in_that_cannot_be_imported_names_the_plug_in(use):
    with pytest.raises(InputError, match=r"the [a-z ]+ '(Noise|Mine|mine)'.*(no_such_package|math)"):
        use()


def test_two_packages_cannot_have_one_name(monkeypatch):
    entry_points(monkeypatch, ("one", "math:pi"))
    with pytest.raises(InputError, match="that name is taken"):
        list(Registry("number", float, {"one": 1.0}, group="longtake.tests"))


def test_a_group_is_read_once_and_only_when_needed(monkeypatch):
    calls = []
    monkeypatch.setattr(registry, "entry_points", lambda group: calls.append(group) or [])
    numbers = Registry("number", int, {"one": 1}, group="longtake.tests")
    assert numbers["one"] == 1 and calls == []
    assert "two" not in numbers and list(numbers) == ["one"] and calls == ["longtake.tests"]


@pytest.mark.parametrize("name", ["", 7, "two words", "../up", "-x"])
def test_a_line_needs_a_name_that_fits_a_flag(name):
    with pytest.raises(InputError, match="cannot name a number"):
        Registry("number", int).register(name, 1)


def test_a_line_of_another_kind_is_refused_when_it_is_registered():
    numbers = Registry("number", int)
    with pytest.raises(InputError, match="the number 'one' is a NoneType, not a int"):
        numbers.register("one", None)
    assert "one" not in numbers


def test_a_registered_reference_that_cannot_be_imported_is_named():
    numbers = Registry("number", int)
    numbers.register("one", "nowhere:ONE")
    with pytest.raises(InputError, match="'one' cannot be imported from nowhere:ONE"):
        numbers["one"]


def test_two_plug_ins_of_one_name_are_refused_at_every_use(monkeypatch):
    entry_points(monkeypatch, ("new", "math:pi"), ("one", "math:e"))
    numbers = Registry("number", object, {"one": 1}, "longtake.tests")
    for _ in range(2):
        with pytest.raises(InputError, match="math:e wants to be the number 'one'"):
            list(numbers)
