"""One studio and one Chromium for the tests of a file."""

import pytest

from tests.studio.browser.driving import Page, Studio, browser, needs_browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A studio on an empty folder."""
    needs_browser()
    made = Studio(tmp_path_factory.mktemp("studio") / "films")
    yield made
    made.close()


@pytest.fixture(scope="module")
def driver():
    """A Chromium."""
    needs_browser()
    made = browser()
    yield made
    made.quit()


@pytest.fixture
def page(driver, studio):
    """The page, open and without a draft of an earlier test."""
    return Page(driver, studio).open()
