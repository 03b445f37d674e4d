"""The system's Chromium, controlled by Playwright, and all that a page must not do in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from tests.chromium import EXECUTABLE

PATIENCE_MS = 60_000
PHONE, DESK = (390, 844), (1280, 900)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """Start Chromium while the block runs."""
    assert EXECUTABLE is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=Path(EXECUTABLE), args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """Page in a browser of its own storage, which notes messages, errors, dialogs and requests to other origins."""

    def __init__(self, browser: Browser, address: str, size: tuple[int, int] = DESK, *, dark: bool = False) -> None:
        """Open a page.

        Args:
            browser: Running browser.
            address: Address of the server.
            size: Width and height of the window.
            dark: Whether dark colours are preferred.
        """
        self._origin = urlsplit(address).netloc
        self.faults: list[str] = []
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self._check(request.url))
        self.page.goto(f"{address}/app/")

    def _dismiss(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _check(self, url: str) -> None:
        if urlsplit(url).netloc != self._origin:
            self.faults.append(f"request to {url}")

    def go(self, view: str) -> None:
        """Go to a view by its address."""
        self.page.evaluate("place => { location.hash = place }", f"#/{view}")

    @property
    def overflow(self) -> int:
        """Pixels by which the content is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    @property
    def unlabelled(self) -> list[str]:
        """Controls without a name that a screen reader could say."""
        return list(
            self.page.evaluate(
                """() => [...document.querySelectorAll("input, select, textarea, button, a, summary, [role=region]")]
                .filter(one => !(one.labels?.length || one.textContent.trim() || one.getAttribute("aria-label")))
                .map(one => one.outerHTML.slice(0, 200))"""
            )
        )

    @property
    def violations(self) -> list[str]:
        """Rules of accessibility that axe finds broken, with the elements that break them."""
        # Elements that fade in have no colours yet to judge.
        self.page.evaluate("Promise.all(document.getAnimations().map(one => one.finished))")
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def close(self) -> None:
        """Close the page."""
        self.page.context.close()
