"""Stepping in the browser on a real `langgraph dev`: stops by leave risk, and forks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.chromium import needs_chromium
from tests.servers import Server, serving
from tests.web.browser import PATIENCE_MS, PHONE, Tab, opened_browser

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)

ROUNDS = 5


@pytest.fixture(scope="module")
def server(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("stepped"), built_home) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, server.url)
    yield opened
    opened.close()


def begin(page: Page, variant: str = "episode") -> str:
    """Start a visit that stops before its first round, and return its thread."""
    page.get_by_label("Variant").select_option(label=variant)
    expect(page.get_by_label("World", exact=True)).to_be_visible()
    page.get_by_label("World", exact=True).fill("tiny")
    page.get_by_label("Max steps").fill(str(ROUNDS))
    page.get_by_label("Stop before the first round").check()
    page.get_by_role("button", name="Start the visit").click()
    page.wait_for_url(re.compile(r"#/step/[0-9a-f-]+$"))
    expect(page.get_by_role("button", name=re.compile("^Run (planner|actor)$"))).to_be_visible()
    return page.url.rsplit("/", 1)[1]


def state_of(server: Server, thread: str) -> dict[str, Any]:
    """Return the state of a thread, as the server has it."""
    return dict(httpx.get(f"{server.url}/threads/{thread}/state", trust_env=False).raise_for_status().json())


def go_to_the_end(page: Page) -> None:
    page.get_by_role("button", name="Go on to the end").click()
    expect(page.get_by_text("The visit is over here")).to_be_visible()


def checkpoint(page: Page, text: str) -> Locator:
    """Return the button that goes back to a checkpoint."""
    return page.get_by_role("listitem").filter(has_text=text).get_by_role("button", name="Go back")


def ride(page: Page, percent: float) -> None:
    """Run a visit until the shown item has a leave risk."""
    page.get_by_text("Stops", exact=True).click()
    page.get_by_label("Leave risk of the shown item").fill(f"{percent:.6f}")
    page.get_by_role("button", name="Run until the user is about to leave").click()


def test_a_visit_stops_before_the_user_who_is_about_to_leave(tab: Tab, server: Server) -> None:
    page = tab.page
    thread = begin(page)
    go_to_the_end(page)
    risks = [step["risk"] for step in state_of(server, thread)["values"]["steps"]]
    riskiest = max(range(len(risks)), key=lambda number: risks[number] or 0.0)
    assert riskiest > 0 and risks[riskiest] > 0
    # The same visit again, from its start: it passes the rounds of less risk, and stops before the riskiest.
    page.get_by_role("button", name="Earlier ones").click()
    checkpoint(page, "round 1, before planner").click()
    ride(page, 99.9 * risks[riskiest])
    expect(page.get_by_role("status").filter(has_text="The user is about to leave")).to_be_visible()
    expect(page.get_by_role("button", name="Run user")).to_be_visible()
    stopped = state_of(server, thread)
    assert stopped["next"] == ["user"] and len(stopped["values"]["steps"]) == riskiest
    item = stopped["values"]["proposal"]["item_id"]
    (shown,) = (one["risk"] for one in stopped["values"]["shortlist"] if one["item_id"] == item)
    assert shown == pytest.approx(risks[riskiest])
    # From there the user answers, and no further item is so risky.
    ride(page, 100)
    expect(page.get_by_role("status").filter(has_text="No shown item had a leave risk of 100%")).to_be_visible()
    expect(page.get_by_text("The visit is over here")).to_be_visible()
    assert len(state_of(server, thread)["values"]["steps"]) == len(risks)
    assert tab.faults == []


def test_a_variant_that_knows_no_risk_says_so(browser: Browser, server: Server) -> None:
    tab = Tab(browser, server.url, PHONE)
    page = tab.page
    begin(page, "billp")
    page.get_by_text("Stops", exact=True).click()
    expect(page.get_by_text("This variant knows no risk: it has no outlook.")).to_be_visible()
    expect(page.get_by_role("button", name="Run until the user is about to leave")).to_be_disabled()
    expect(page.get_by_label("Leave risk of the shown item")).to_be_disabled()
    assert tab.overflow == 0 and tab.faults == []
    tab.close()


def test_the_wait_for_a_risk_can_be_stopped(tab: Tab, server: Server) -> None:
    page = tab.page
    thread = begin(page)
    # The server's answer to the end of a run is kept back, so that the visit is surely under way.
    page.route("**/join", lambda route: None)
    ride(page, 100)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Run to the next round")).to_be_visible()
    assert not state_of(server, thread)["values"].get("steps")
    expect(page.get_by_role("status").filter(has_text="leave risk")).to_have_count(0)
    assert tab.faults == []
