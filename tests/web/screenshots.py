"""Pictures of the page for the documents: `python -m tests.web.screenshots ADDRESS WORLD` writes docs/images."""

import re
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.web.browser import DESK, PATIENCE_MS, PHONE, Tab, opened_browser

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
OVER = re.compile("^(finished|the user left.*)$")
USER, ROUNDS = "155", "12"


def taken(page: Page, name: str) -> None:
    """Write a picture of the window."""
    FOLDER.mkdir(exist_ok=True)
    page.evaluate("document.activeElement?.blur()")
    page.screenshot(path=FOLDER / f"{name}.png")


def visit(browser: Browser, address: str, world: str) -> None:
    """Take pictures of a finished visit and of one that is stepped."""
    for stepped in (False, True):
        tab = Tab(browser, address, DESK, dark=stepped)
        page = tab.page
        page.get_by_label("World", exact=True).fill(world)
        page.get_by_label("User id").fill(USER)
        page.get_by_label("Max steps").fill(ROUNDS)
        page.get_by_label("Stop before the first round").set_checked(stepped)
        page.get_by_role("button", name="Start the visit").click()
        if stepped:
            page.get_by_label("Plan", exact=True).fill("only comedies")
            page.get_by_role("button", name="Save the plan").click()
            for node in ("planner", "outlook", "actor"):
                page.get_by_role("button", name=f"Run {node}").click()
            expect(page.get_by_role("button", name="Run user")).to_be_visible()
        else:
            expect(page.get_by_text(OVER)).to_be_visible()
        taken(page, "web-step" if stepped else "web-visit")
        tab.close()


def person(browser: Browser, address: str, world: str) -> None:
    """Take a picture of a person's visit on a phone."""
    tab = Tab(browser, address, PHONE)
    page = tab.page
    tab.go("you")
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("What do you wish for?").fill("comedies, no horror")
    page.get_by_text("World, rounds and model").click()
    page.get_by_label("World", exact=True).fill(world)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_text("Round 1", exact=True)).to_be_visible()
    page.get_by_role("button", name="4 of 5").click()
    expect(page.get_by_text("Round 2", exact=True)).to_be_visible()
    taken(page, "web-person")
    tab.close()


def main() -> None:
    """Take all pictures."""
    address, world = sys.argv[1:]
    expect.set_options(timeout=PATIENCE_MS)
    with opened_browser() as browser:
        visit(browser, address.rstrip("/"), world)
        person(browser, address.rstrip("/"), world)


if __name__ == "__main__":
    main()
