"""The requirements files with hashes agree with constraints.txt and with pyproject.toml."""

import importlib.util
import re
from pathlib import Path

import pytest

import longtake

ROOT = Path(longtake.__file__).parents[2]
HINT = "run `make lock`"


def script(name: str):
    """A script of the folder release."""
    spec = importlib.util.spec_from_file_location(f"release_{name}", ROOT / "release" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def locked() -> dict[str, dict[str, tuple[str, frozenset[str]]]]:
    """The version and the hashes of each package, of both files."""
    lock, files = script("lock"), {}
    for name in ("requirements.txt", "requirements-image.txt", "requirements-all.txt"):
        text = (ROOT / "release" / name).read_text(encoding="utf-8")
        files[name] = {
            lock.name_of(entry): (
                re.match(r"[^=]+==([^\s;]+)", entry)[1],
                frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)),
            )
            for entry in lock.entries(text)
        }
    return files


def test_every_pin_but_pytorch_has_hashes(locked):
    pins = script("third_parties").pins()
    there = {name: version for name, (version, hashes) in locked["requirements-all.txt"].items() if hashes}
    assert there | {"torch": pins["torch"]} == pins, HINT


def test_what_is_needed_to_run_is_a_part_of_it(locked):
    every = locked["requirements-all.txt"]
    image = locked["requirements-image.txt"]
    assert all(every.get(name) == entry for name, entry in image.items()), HINT
    assert all(image.get(name) == entry for name, entry in locked["requirements.txt"].items()), HINT
    assert "transformers" in image and "transformers" not in locked["requirements.txt"]


def test_nothing_that_is_needed_to_run_is_missing(locked):
    third = script("third_parties")
    needed = set(third.closure(third.project()["dependencies"])) - {"torch"}
    needed = {name for name in needed if not script("lock").TORCH.fullmatch(name)}
    assert needed and needed <= set(locked["requirements.txt"]), HINT


def test_pins_are_kept_and_missing_ones_added():
    lock = script("lock")
    entries = "numpy==2.0 \\\n    --hash=sha256:00\nrich==15 ; x \\\n    --hash=sha256:11\n"
    assert lock.with_missing("NumPy==1.0\ntorch==2\n", entries) == "NumPy==1.0\nrich==15\ntorch==2\n"
