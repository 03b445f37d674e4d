"""Browser and tab of the tests of the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.servers import Server
from tests.web.browser import Tab, opened_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    """Tab on the server of the module's fixture `server`."""
    opened = Tab(browser, server.url)
    yield opened
    opened.close()
