"""The reference names every public name. `make docs` checks that all reference pages are up to date."""

import importlib.util
from pathlib import Path

import pytest

import longtake

ROOT = Path(longtake.__file__).parents[2]


@pytest.fixture(scope="module")
def build():
    """The script that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference(build):
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert all(f"::: {build.home(name)}" in page for name in longtake.__all__)
