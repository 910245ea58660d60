"""The commands on all other pages run too; this is a file of its own so that another worker can run it."""

import pytest

from tests.docs.blocks import run_page, run_pages
from tests.docs.test_run_first_pages import PAGES as FIRST


@pytest.mark.long
@pytest.mark.parametrize("page", sorted({*run_pages()} - FIRST), ids=lambda page: page.stem)
def test_every_command_runs(page, tmp_path, monkeypatch):
    run_page(page, tmp_path, monkeypatch)
