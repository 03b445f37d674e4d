"""Visits in the browser on a real `langgraph dev`: started, watched, stepped, edited, forked; hostile titles."""

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from sim.world import World
from tests import scripted
from tests.chromium import needs_chromium
from tests.hostile import renamed
from tests.processes import end
from tests.scripted import Asked, Reply, by_rules
from tests.servers import Server, answers, develop, serving
from tests.waiting import PATIENCE, until
from tests.web.browser import DESK, PATIENCE_MS, PHONE, Tab

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
RIGHT_TO_LEFT = "\u202eאבג\u202d מסע החורף"
LONG = "Wort" * 60
VIEWS = ("visit", "step", "you", "memory", "studies")
OVER = re.compile(r"finished|the user left")


@pytest.fixture(scope="module")
def home(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home folder with `tiny`, and with a world `hostile` of titles that are markup, right-to-left or one long word."""
    folder = tmp_path_factory.mktemp("web") / "home"
    shutil.copytree(built_home, folder)
    titles = (SCRIPT, RIGHT_TO_LEFT, LONG)
    world = World.build("hostile", renamed(lambda place: f"{titles[place % 3]} {place}"))
    world.save(folder / "worlds" / "hostile")
    return folder


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served"), home) as running:
        yield running


def begin(page: Page, world: str = "tiny", rounds: int = 4, *, stepped: bool = False) -> str:
    """Start a visit by the form, and return its thread."""
    page.get_by_label("World", exact=True).fill(world)
    page.get_by_label("Max steps").fill(str(rounds))
    page.get_by_label("Stop before the first round").set_checked(stepped)
    page.get_by_role("button", name="Start the visit").click()
    page.wait_for_url(re.compile(r"#/(visit|step)/[0-9a-f-]+$"))
    return page.url.rsplit("/", 1)[1]


def episode_of(server: Server) -> str:
    """Return the id of the assistant of the graph `episode`."""
    wanted = {"graph_id": "episode", "limit": 1}
    answer = httpx.post(f"{server.url}/assistants/search", json=wanted, trust_env=False)
    return str(answer.raise_for_status().json()[0]["assistant_id"])


def cards(page: Page) -> list[str]:
    return page.locator(".card h3").all_inner_texts()


def test_a_visit_is_started_watched_and_read_again_by_its_address(tab: Tab, browser: Browser, server: Server) -> None:
    page = tab.page
    page.get_by_text("Other settings").click()
    page.get_by_label("Lessons k").fill("3")
    page.get_by_text("Planner", exact=True).click()
    prompt = page.get_by_label("Planner prompt")
    assert "Plan the next round" in prompt.input_value()
    prompt.fill(f"{prompt.input_value()}\nBe brief.")
    thread = begin(page)
    expect(page.locator(".facts")).to_contain_text(OVER)
    shown = cards(page)
    assert len(shown) == 4 and shown[0].startswith("1. ")
    first = page.locator(".card").first
    first.get_by_text("Shortlist, recalled rounds").click()
    expect(first.get_by_role("row")).to_have_count(1 + 8)
    assert first.locator("tr.chosen th").inner_text() == f"{shown[0].removeprefix('1. ')} (chosen)"
    first.get_by_text("planner: prompt and reply").click()
    expect(first.locator("pre").nth(1)).to_contain_text("Be brief.")
    assert page.locator(".reward-dot").count() == 4
    # The same address shows the same visit in another tab.
    other = Tab(browser, server.url, dark=True)
    other.go(f"visit/{thread}")
    expect(other.page.locator(".card")).to_have_count(4)
    assert cards(other.page) == shown
    assert tab.faults == other.faults == []
    other.close()


def test_rounds_appear_while_the_visit_goes_on(home: Path, browser: Browser, tmp_path: Path) -> None:
    """The Planner's third reply waits until the cards of the first two rounds are on the page."""
    seen = threading.Event()

    def held(asked: Asked) -> Reply:
        if asked.facts["role"] == "planner" and len(asked.facts["rounds"]) == 2:
            assert seen.wait(PATIENCE)
        return by_rules(asked)

    with (
        scripted.serving(held) as model,
        serving(tmp_path, home, env={"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "any"}) as live,
    ):
        shown = Tab(browser, live.url)
        try:
            shown.page.get_by_label("Model", exact=True).fill("openai:scripted")
            begin(shown.page)
            expect(shown.page.locator(".card")).to_have_count(2)
            expect(shown.page.locator(".facts")).not_to_contain_text(OVER)
        finally:
            seen.set()
        expect(shown.page.locator(".facts")).to_contain_text(OVER)
        expect(shown.page.locator(".card")).to_have_count(4)
        assert shown.faults == []
        shown.close()


def overlaps(page: Page) -> list[str]:
    """Return the pairs of nodes and labels of the graph that cover each other, and those that lie outside it."""
    return list(
        page.evaluate(
            """() => {
            const boxes = [...document.querySelectorAll(".graph .node rect, .graph .label")].map(one =>
                [one.parentNode.textContent, one.getBoundingClientRect()]);
            const room = document.querySelector(".graph svg").getBoundingClientRect();
            const apart = (one, two) => one.right <= two.left || two.right <= one.left
                || one.bottom <= two.top || two.bottom <= one.top;
            const outside = ([, one]) => one.left < room.left - 1 || one.right > room.right + 1
                || one.top < room.top - 1 || one.bottom > room.bottom + 1;
            return boxes.flatMap(([name, box], place) => boxes.slice(place + 1)
                .filter(([, other]) => !apart(box, other)).map(([other]) => `${name} and ${other}`))
                .concat(boxes.filter(outside).map(([name]) => name));
        }"""
        )
    )


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_the_graph_is_drawn_with_all_its_edges_and_marks_the_node_at_work(
    browser: Browser, server: Server, size: tuple[int, int]
) -> None:
    tab = Tab(browser, server.url, size)
    page = tab.page
    begin(page, stepped=True)
    drawn = page.locator(".graph")
    expect(drawn.locator(".working")).to_have_text("planner")
    page.get_by_role("button", name="Run planner").click()
    expect(drawn.locator(".working")).to_have_text("outlook")
    graph = httpx.get(f"{server.url}/assistants/{episode_of(server)}/graph", trust_env=False).json()
    assert drawn.locator(".edge").count() == len(graph["edges"]) and drawn.locator(".choice").count() == 2
    names = [one["id"] for one in graph["nodes"] if not one["id"].startswith("__")]
    assert drawn.locator(".node text").all_text_contents() == names
    assert overlaps(page) == []
    # A letter has the same height on a phone: the picture is laid out anew, not made smaller.
    assert page.evaluate("document.querySelector('.graph svg').getScreenCTM().a") == 1
    words = page.get_by_role("img", name="Graph of the visit").get_attribute("aria-label") or ""
    assert "start to begin, " in words and "critic to planner (next round)" in words
    assert words.endswith("Node at work or next: outlook.")
    assert tab.overflow == 0 and tab.faults == []
    tab.close()


# Branches that meet, an edge past a layer, a circle within a circle, and a node that leads to itself.
UNUSUAL: dict[str, list[dict[str, Any]]] = {
    "nodes": [{"id": name} for name in ("__start__", "begin", "left_path", "right_path", "meet", "user", "__end__")],
    "edges": [
        {"source": source, "target": target, **({"data": label, "conditional": True} if label else {})}
        for source, target, label in (
            ("__start__", "begin", ""),
            ("begin", "left_path", ""),
            ("begin", "right_path", ""),
            ("left_path", "meet", ""),
            ("right_path", "meet", ""),
            ("begin", "user", "at once"),
            ("meet", "user", ""),
            ("meet", "meet", "again"),
            ("user", "begin", "next round"),
            ("user", "meet", "once more"),
            ("user", "__end__", "visit over"),
        )
    ],
}


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_a_graph_of_any_form_is_drawn(browser: Browser, server: Server, size: tuple[int, int]) -> None:
    tab = Tab(browser, server.url, size)
    page = tab.page
    page.route("**/graph", lambda route: route.fulfill(json=UNUSUAL))
    begin(page)
    expect(page.locator(".graph .edge")).to_have_count(len(UNUSUAL["edges"]))
    assert overlaps(page) == []
    assert tab.overflow == 0 and tab.faults == []
    tab.close()


def test_a_visit_is_stepped_edited_and_forked(tab: Tab) -> None:
    page = tab.page
    thread = begin(page, stepped=True)
    page.get_by_label("Plan", exact=True).fill("only comedies")
    page.get_by_role("button", name="Save the plan").click()
    expect(page.get_by_text("Somebody edited this visit")).to_be_visible()
    for node in ("planner", "outlook", "actor"):
        page.get_by_role("button", name=f"Run {node}").click()
    expect(page.get_by_role("button", name="Run user")).to_be_visible()
    categories = page.locator("table", has=page.get_by_text("Shortlist")).locator("tbody td.text").all_inner_texts()
    assert categories and all("Comedy" in one for one in categories)
    # Another item of the catalogue instead of the Actor's.
    page.get_by_label("Search the catalogue").fill("tower")
    page.get_by_role("button", name="Search items").click()
    expect(page.get_by_text(re.compile(r"^\d+ found$"))).to_be_visible()
    chosen = page.get_by_label("Item", exact=True).locator("option", has_text="Paper Tower").first
    page.get_by_label("Item", exact=True).select_option(chosen.get_attribute("value"))
    page.get_by_role("button", name="Propose this item").click()
    expect(page.get_by_text("Proposal: Paper Tower")).to_be_visible()
    page.get_by_role("button", name="Run to the next round").click()
    expect(page.get_by_role("button", name="Run planner")).to_be_visible()
    assert cards(page) == ["1. Paper Tower"]
    # Back to the checkpoint before the proposal was edited: the fork keeps the plan and gets another item.
    before_user = page.get_by_role("listitem").filter(has_text="before user").filter(has_not_text="edited")
    before_user.get_by_role("button", name="Go back").click()
    expect(page.get_by_text("To go on from here makes a fork")).to_be_visible()
    page.get_by_role("button", name="Run to the next round").click()
    expect(page.get_by_role("button", name="Run planner")).to_be_visible()
    (forked,) = cards(page)
    assert forked != "1. Paper Tower"
    # A wrong edit is refused in one line.
    page.get_by_text("Other fields").click()
    fields = page.get_by_label("Fields as JSON")
    for wrong, why in (("{", "This is not JSON"), ('{"value": 99}', "value: Input should be less than or equal to 5")):
        fields.fill(wrong)
        page.get_by_role("button", name="Save the fields").click()
        expect(page.get_by_role("alert")).to_contain_text(why)
    fields.fill('{"value": 1}')
    page.get_by_role("button", name="Save the fields").click()
    expect(fields).to_be_hidden()
    page.get_by_role("button", name="Go on to the end").click()
    expect(page.get_by_text("The visit is over here")).to_be_visible()
    page.get_by_role("button", name="Copy this visit").click()
    page.get_by_role("link", name="both side by side").click()
    expect(page.locator("section")).to_have_count(2)
    expect(page.locator("section").nth(1).locator(".card")).to_have_count(4)
    assert thread in page.url
    # The browser itself reports the refused edit.
    assert len(tab.faults) == 1 and "status of 400" in tab.faults[0]


def test_hostile_titles_are_text(tab: Tab) -> None:
    page = tab.page
    begin(page, "hostile", 6)
    expect(page.locator(".facts")).to_contain_text(OVER)
    shown = " ".join(cards(page))
    assert SCRIPT in shown and RIGHT_TO_LEFT in shown and LONG in shown
    assert page.locator("main img, main script").count() == 0
    # A right-to-left title leaves the round's number before it and the reward after it.
    title = page.locator(".card h3", has_text=RIGHT_TO_LEFT).first
    assert re.match(r"\d\. ", title.inner_text()) and title.locator("bdi").count() == 1
    assert tab.overflow == 0 and tab.faults == []


@pytest.mark.parametrize("size", [PHONE, DESK])
@pytest.mark.parametrize("dark", [False, True])
def test_each_view_fits_the_window_and_names_its_controls(
    browser: Browser, server: Server, size: tuple[int, int], dark: bool
) -> None:
    tab = Tab(browser, server.url, size, dark=dark)
    for view in VIEWS:
        tab.go(view)
        link = tab.page.get_by_role("navigation").locator("[aria-current=page]")
        expect(link).to_have_attribute("href", f"#/{view}")
        expect(tab.page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)
        assert tab.overflow == 0, view
        assert tab.unlabelled == [] and tab.violations == [], view
        # The title has the focus, and the first control after it is reached by the keyboard.
        expect(tab.page.locator("h1")).to_be_focused()
    assert tab.faults == []
    tab.close()


@pytest.mark.parametrize("dark", [False, True])
def test_a_visit_is_accessible_with_all_that_opens_in_it(browser: Browser, server: Server, dark: bool) -> None:
    tab = Tab(browser, server.url, dark=dark)
    page = tab.page
    page.get_by_text("Other settings").click()
    page.get_by_text("Planner", exact=True).click()
    assert tab.violations == []
    thread = begin(page)
    expect(page.locator(".facts")).to_contain_text(OVER)
    card = page.locator(".card").nth(2)
    card.get_by_text("Shortlist, recalled rounds").click()
    card.get_by_text("planner: prompt and reply").click()
    expect(card.get_by_role("region", name="Prompt of planner")).to_be_visible()
    assert tab.violations == []
    tab.go(f"visit/{thread}+{thread}")
    expect(page.locator("section").nth(1).locator(".card")).to_have_count(4)
    assert tab.violations == []
    # Stepped, before the user's turn, with all that can be edited, and a checkpoint to go back to.
    tab.go("visit")
    begin(page, stepped=True)
    for node in ("planner", "outlook", "actor"):
        page.get_by_role("button", name=f"Run {node}").click()
    expect(page.get_by_role("button", name="Run user")).to_be_visible()
    page.get_by_text("Stops", exact=True).click()
    page.get_by_text("Other fields").click()
    page.get_by_role("button", name="Go back").nth(1).click()
    expect(page.get_by_text("To go on from here makes a fork")).to_be_visible()
    assert tab.violations == []
    # A person in the middle of their visit.
    tab.go("you")
    page.get_by_label("Your name").fill("ann")
    page.get_by_text("World, rounds and model").click()
    page.get_by_label("World", exact=True).fill("tiny")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_text("Round 1", exact=True)).to_be_visible()
    page.get_by_text("Your profile, and the next round").click()
    assert tab.violations == [] and tab.faults == []
    tab.close()


def test_axe_sees_what_it_should(tab: Tab) -> None:
    """The tests of accessibility can fail: a picture without words and faint letters are found."""
    expect(tab.page.get_by_role("button", name="Start the visit")).to_be_visible()
    tab.page.evaluate(
        """() => {
        const main = document.querySelector("main");
        const faint = Object.assign(document.createElement("p"), { textContent: "faint" });
        main.append(document.createElement("img"), faint);
        faint.style.color = getComputedStyle(document.documentElement).getPropertyValue("--line");
    }"""
    )
    assert {one.split(":")[0] for one in tab.violations} == {"color-contrast", "image-alt"}


def test_a_visit_is_started_by_the_keyboard_alone(tab: Tab) -> None:
    page = tab.page
    expect(page.get_by_role("button", name="Start the visit")).to_be_visible()
    page.get_by_label("World", exact=True).focus()
    page.keyboard.type("tiny")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Start the visit":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".card").first).to_be_visible()
    assert tab.faults == []


def test_a_refused_visit_says_why(tab: Tab) -> None:
    page = tab.page
    begin(page, "nowhere")
    expect(page.get_by_role("alert")).to_contain_text("there is no world 'nowhere'")
    assert tab.faults == []


def test_a_server_that_goes_away_is_said_and_met_again(
    browser: Browser, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("away")
    with serving(folder, home) as server:
        tab = Tab(browser, server.url)
        page = tab.page
        thread = begin(page)
        expect(page.locator(".facts")).to_contain_text(OVER)
        before = cards(page)
        end(server.process)
        tab.go("memory")
        expect(page.get_by_role("alert").filter(has_text="asks again until it does")).to_be_visible()
        port = int(server.url.rsplit(":", 1)[1])
        again = develop(folder / "deployment", folder / "home", port)
        try:
            until(lambda: answers(f"{server.url}/ok"), "the server to come back")
            expect(page.get_by_text("asks again until it does")).to_have_count(0)
            expect(page.get_by_label("Kind")).to_be_visible()
            tab.go(f"visit/{thread}")
            expect(page.locator(".card")).to_have_count(len(before))
            assert cards(page) == before
        finally:
            end(again)
        # The browser itself reports each request that found no server.
        assert [one for one in tab.faults if "ERR_CONNECTION" not in one] == []
        tab.close()
