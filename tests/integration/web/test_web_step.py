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
from tests.web.browser import PATIENCE_MS, PHONE, Tab

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)

ROUNDS = 5


@pytest.fixture(scope="module")
def server(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("stepped"), built_home) as running:
        yield running


def begin(page: Page, variant: str = "episode", rounds: int = ROUNDS) -> str:
    """Start a visit that stops before its first round, and return its thread."""
    page.get_by_label("Variant").select_option(label=variant)
    expect(page.get_by_label("World", exact=True)).to_be_visible()
    page.get_by_label("World", exact=True).fill("tiny")
    page.get_by_label("Max steps").fill(str(rounds))
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


def finished(page: Page, server: Server) -> tuple[str, list[dict[str, Any]]]:
    """Make a visit of two rounds, and return its thread and its rounds."""
    thread = begin(page, rounds=2)
    go_to_the_end(page)
    return thread, state_of(server, thread)["values"]["steps"]


def go_back(page: Page, to: str) -> None:
    """Go back to a checkpoint of the latest branch."""
    checkpoint(page, to).first.click()
    expect(page.get_by_text("To go on from here makes a fork")).to_be_visible()


def order(page: Page, plan: str) -> None:
    """Save a plan where the page is."""
    page.get_by_label("Plan", exact=True).fill(plan)
    page.get_by_role("button", name="Save the plan").click()
    expect(page.get_by_text("To go on from here makes a fork")).to_have_count(0)
    expect(page.get_by_text("Somebody edited this visit")).to_be_visible()


def cards(page: Page | Locator) -> list[str]:
    return page.locator(".card h3").all_inner_texts()


def test_a_fork_with_an_edited_plan_changes_only_what_comes_after(tab: Tab, server: Server) -> None:
    page = tab.page
    thread, steps = finished(page, server)
    before = cards(page)
    other = "Crime" if "Comedy" in steps[1]["genres"] else "Comedy"
    go_back(page, "round 2, before planner")
    assert cards(page) == before[:1]
    order(page, f"only {other}")
    expect(page.get_by_role("listitem").filter(has_text="edited, ")).to_have_count(1)
    go_to_the_end(page)
    forked = state_of(server, thread)["values"]["steps"]
    assert forked[0] == steps[0] and forked[1]["plan"] == f"only {other}" and other in forked[1]["genres"]
    assert forked[1]["item_id"] != steps[1]["item_id"]
    # Both branches have their ends, and that of the first one can still be looked at.
    ends = page.get_by_role("listitem").filter(has_text="before the end")
    expect(ends).to_have_count(2)
    ends.last.get_by_role("button", name="Go back").click()
    expect(page.locator(".card h3").nth(1)).to_have_text(before[1])
    assert cards(page) == before
    page.get_by_role("button", name="Back to the latest").click()
    expect(page.locator(".card h3").nth(1)).to_have_text(f"2. {forked[1]['title']}")
    assert tab.faults == []


def test_another_item_is_proposed_at_a_fork(tab: Tab, server: Server) -> None:
    page = tab.page
    thread, steps = finished(page, server)
    go_back(page, "round 2, before user")
    items = page.get_by_label("Item", exact=True)
    assert items.input_value() == steps[1]["item_id"]
    offered = [one.get_attribute("value") for one in items.get_by_role("option").all()]
    wanted = next(one for one in offered if one and one not in {step["item_id"] for step in steps})
    items.select_option(wanted)
    page.get_by_role("button", name="Propose this item").click()
    expect(page.get_by_text("To go on from here makes a fork")).to_have_count(0)
    # The edit is the latest state: of the fork, before its user's turn.
    edited = state_of(server, thread)
    assert edited["next"] == ["user"] and edited["values"]["proposal"]["item_id"] == wanted
    assert len(edited["values"]["steps"]) == 1
    go_to_the_end(page)
    forked = state_of(server, thread)["values"]["steps"]
    assert [one["item_id"] for one in forked] == [steps[0]["item_id"], wanted]
    assert tab.faults == []


def test_two_forks_stand_side_by_side(browser: Browser, server: Server) -> None:
    tab = Tab(browser, server.url)
    page = tab.page
    thread, steps = finished(page, server)
    page.get_by_role("button", name="Copy this visit").click()
    copy = (page.get_by_role("link", name="step through the copy").get_attribute("href") or "").rsplit("/", 1)[1]
    for one, category in ((thread, "Comedy"), (copy, "Crime")):
        tab.go(f"step/{one}")
        expect(page.get_by_text("The visit is over here")).to_be_visible()
        go_back(page, "round 2, before planner")
        order(page, f"only {category}")
        go_to_the_end(page)
    tab.go(f"visit/{thread}+{copy}")
    sides = page.get_by_role("region", name=re.compile("^Visit [12]$"))
    expect(sides).to_have_count(2)
    for side, category in zip(sides.all(), ("Comedy", "Crime"), strict=True):
        expect(side.locator(".card")).to_have_count(2)
        assert cards(side)[0] == f"1. {steps[0]['title']}"
        expect(side.locator(".card").nth(1)).to_contain_text(f"Plan: only {category}")
        expect(side.locator(".card").nth(1).locator(".tag").filter(has_text=category)).to_have_count(1)
    left, right = (one.bounding_box() for one in sides.all())
    assert left and right and left["x"] + left["width"] <= right["x"] and tab.overflow == 0
    # On a phone one stands below the other.
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    above, below = (one.bounding_box() for one in sides.all())
    assert above and below and above["y"] + above["height"] <= below["y"] and tab.overflow == 0
    assert tab.faults == []
    tab.close()
