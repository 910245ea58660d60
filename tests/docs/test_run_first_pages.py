"""The commands that a new user types first, on the README and the page "Get started", do what they say."""

import pytest

from tests.docs.blocks import ROOT, run_page, run_pages

PAGES = {ROOT / "README.md", ROOT / "docs" / "get-started.md"}


@pytest.mark.long
@pytest.mark.parametrize("page", sorted(PAGES & {*run_pages()}), ids=lambda page: page.stem)
def test_every_command_runs(page, tmp_path, monkeypatch):
    run_page(page, tmp_path, monkeypatch)
