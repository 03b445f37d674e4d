"""Memory and studies in the browser by `billp view`, without a LangGraph server."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from memory.records import Experience, Lesson, account_space, escape, namespace, people_space
from memory.store import ChromaStore
from sim.world import World
from tests.chromium import needs_chromium
from tests.commands import BILLP, billp
from tests.processes import line_of, started
from tests.web.browser import PATIENCE_MS, PHONE, Tab

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)

OF = {"user_id": "1", "situation": "Heat\nAlien"}
LESSONS = [
    Lesson(**OF, visit="v1", text="Keep close.", length=3, total_reward=9.0),
    Lesson(**OF, visit="v2", text="Keep <i>apart</i>.", length=5, total_reward=20.0, replaces=["a"]),
    Lesson(**OF, visit="v3", text="Mix categories.", length=4, total_reward=12.0),
]
STUDY = ("study", "--world", "tiny", "--train", "4", "--cohort", "2", "--max-steps", "5", "--variants", "random,billp")


def experience(title: str, **fields: Any) -> Experience:
    """Return an experience of an item."""
    usual = OF | {"situation": title, "title": title, "plan": "Recommend Comedy.", "genres": ["Comedy"], "left": False}
    figures = {"predicted": 4.0, "distance": 1.0, "reward": 4.0, "advantage": -1.5}
    return Experience.model_validate(usual | figures | fields)


@pytest.fixture(scope="module")
def home(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home folder with two studies and a memory."""
    folder = tmp_path_factory.mktemp("view") / "home"
    shutil.copytree(built_home, folder)
    for name, lessons in (("one", "2"), ("two", "5")):
        done = billp(folder, *STUDY, "--test", "6", "--set", f"lessons_k={lessons}", "--out", name)
        assert done.returncode == 0, done.stderr
    with ChromaStore(folder / "memory") as store:
        for key, one in zip("abc", LESSONS, strict=True):
            store.put(namespace("lessons", "tiny", "1"), key, one.model_dump(), index=[*one.indexed])
        for number, title in enumerate(("Silent Garden", "Paper Tower")):
            shown = experience(title, visit=f"w{number}", user_id="u.2")
            store.put(namespace("experiences", "tiny", "u.2"), str(number), shown.model_dump(), index=[*shown.indexed])
        first, second, third = (one.id for one in list(World.load(folder / "worlds" / "tiny").catalogue)[:3])
        for number, (item, recent, left) in enumerate(
            ((first, [third], False), (second, [third, first], False), (second, [first], True))
        ):
            shown = experience(
                "", situation="Heat", visit=f"p{number}", user_id="p", item_id=item, recent=recent, left=left
            )
            store.put(namespace("experiences", "tiny", "p"), str(number), shown.model_dump(), index=[*shown.indexed])
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """Address of a running `billp view`."""
    environment: dict[str, Any] = {"env": os.environ | {"BILLP_HOME": str(home)}, "cwd": home.parent}
    command = [*BILLP, "view", "--port", "0"]
    with started(
        command, signal.SIGINT, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, **environment
    ) as process:
        found = re.search(r"http://127\.0\.0\.1:\d+", line_of(process))
        assert found
        yield found[0]


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    opened = Tab(browser, address)
    yield opened
    opened.close()


def items(page: Page) -> list[str]:
    return page.locator(".list > li").all_inner_texts()


def body_of(route: Route) -> dict[str, Any]:
    return dict(json.loads(route.request.post_data or "{}"))


def test_studies_are_listed_read_and_compared(tab: Tab, home: Path) -> None:
    page = tab.page
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == ["Memory", "Studies"]
    page.get_by_role("link", name="Studies").click()
    expect(page.locator(".list > li")).to_have_count(2)
    page.get_by_role("link", name="one").click()
    results = json.loads((home / "runs" / "one" / "results.json").read_text())
    (row,) = (one for one in results["rows"] if one["variant"] == "billp")
    expect(page.get_by_role("row", name="billp").first).to_contain_text(f"{row['total_reward']:.1f}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report of this study").click()
    report = opened.value
    expect(report.get_by_role("heading", name="Study of the world tiny")).to_be_visible()
    page.get_by_label("Side by side with").select_option("two")
    compared = page.get_by_role("region", name="Two studies")
    # The rule is the same in both, user by user.
    expect(compared.get_by_role("row", name="random")).to_contain_text("0.0")
    assert tab.overflow == 0 and tab.faults == []


def test_the_visits_of_a_study_open_with_their_rounds(browser: Browser, address: str, home: Path) -> None:
    lines = [json.loads(line) for line in (home / "runs" / "one" / "visits.jsonl").read_text().splitlines()]
    number = next(number for number, one in enumerate(lines) if one["variant"] == "billp")
    visit = lines[number]
    tab = Tab(browser, address, PHONE)
    page = tab.page
    tab.go("studies/one")
    page.get_by_label("Visits of").select_option("billp")
    own = [one for one in lines if one["variant"] == "billp"]
    expect(page.get_by_text(f"{len(own)} of {len(own)} visits")).to_be_visible()
    page.get_by_role("link", name=f"User {visit['user_id']}", exact=True).first.click()
    expect(page.get_by_role("heading", name="Visit", exact=True)).to_be_focused()
    assert page.url.endswith(f"#/visit/one:{number}")
    cards = page.locator(".card")
    expect(cards).to_have_count(len(visit["steps"]))
    for card, step in zip(cards.all(), visit["steps"], strict=True):
        expect(card.get_by_role("heading")).to_have_text(f"{step['index'] + 1}. {step['title']}")
        expect(card).to_contain_text(step["plan"])
        expect(card.locator(".reward")).to_have_text(f"{step['reward']:.2f} of 5")
    facts = page.locator(".facts")
    expect(facts).to_contain_text("user left" if visit["left"] else "finished")
    expect(facts).to_contain_text(f"{visit['total_reward']:.2f}")
    # Nothing of it can be changed: neither a control of a run nor the way to Step.
    assert page.locator("main button, main a[href^='#/step']").count() == 0
    assert tab.overflow == 0 and tab.unlabelled == []
    page.get_by_role("link", name="one", exact=True).click()
    expect(page.get_by_role("heading", name="Study one")).to_be_visible()
    # The address is a bookmark, and one of no visit says so.
    page.goto(f"{address}/app/#/visit/one:{len(lines)}")
    expect(page.get_by_role("alert")).to_contain_text(f"has no visit {len(lines)}")
    assert len(tab.faults) == 1 and "status of 422" in tab.faults[0]
    tab.close()


@pytest.mark.parametrize("dark", [False, True])
def test_studies_and_memory_are_accessible_with_all_that_opens_in_them(
    browser: Browser, address: str, dark: bool
) -> None:
    tab = Tab(browser, address, dark=dark)
    page = tab.page
    tab.go("studies/one")
    page.get_by_label("Side by side with").select_option("two")
    expect(page.get_by_role("region", name="Two studies")).to_be_visible()
    expect(page.get_by_label("Visits of")).to_be_visible()
    assert tab.violations == []
    page.get_by_role("link", name="User").first.click()
    expect(page.locator(".card").first).to_be_visible()
    assert tab.violations == []
    tab.go("memory")
    page.get_by_text("Replaced 1").click()
    page.get_by_role("button", name="Delete", exact=True).first.click()
    page.get_by_label("User").select_option("1")
    page.get_by_role("button", name="Forget the user 1").click()
    expect(page.get_by_role("button", name="Delete them all")).to_be_visible()
    assert tab.violations == []
    page.get_by_label("Kind").select_option("experiences")
    page.get_by_label("User").select_option("p")
    page.get_by_text("Situation", exact=True).first.click()
    page.get_by_text("Pairs of an item", exact=True).click()
    page.get_by_label("Title, or a part of it").fill("e")
    page.get_by_role("button", name="Show pairs").click()
    page.locator("details .list").get_by_role("button").first.click()
    expect(page.get_by_role("region", name="Pairs")).to_be_visible()
    assert tab.violations == [] and tab.faults == []
    tab.close()


def test_lessons_are_sorted_by_support_and_one_is_deleted(tab: Tab) -> None:
    page = tab.page
    tab.go("memory")
    expect(page.locator(".list > li")).to_have_count(2)
    first, second = items(page)
    assert first.startswith("Keep <i>apart</i>. – 2 visits of 4.0 rounds") and second.startswith("Mix categories.")
    page.get_by_text("Replaced 1").click()
    expect(page.get_by_text("Keep close.")).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).nth(1).click()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("button", name="Delete", exact=True).nth(1).click()
    page.get_by_role("button", name="Delete this lesson").click()
    expect(page.locator(".list > li")).to_have_count(1)
    assert tab.faults == []


def exported(page: Page, button: str) -> tuple[str, list[dict[str, Any]]]:
    """Export by a button, and return the name of the file and its lines."""
    with page.expect_download() as saved:
        page.get_by_role("button", name=button).click()
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    return saved.value.suggested_filename, [json.loads(line) for line in lines]


def test_what_is_shown_and_a_user_are_exported_as_lines_that_memory_import_reads(
    browser: Browser, address: str, home: Path, tmp_path: Path
) -> None:
    tab = Tab(browser, address, PHONE)
    page = tab.page
    tab.go("memory")
    name, lines = exported(page, "Export what is shown")
    assert name == "lessons-tiny.jsonl" and {one["key"] for one in lines} >= {"a", "b"}
    assert all(one["namespace"][:2] == ["lessons", "tiny"] for one in lines)
    page.get_by_label("Kind").select_option("experiences")
    page.get_by_label("User").select_option(label="u.2")
    name, lines = exported(page, "Export the user u.2")
    assert name == "u.2.jsonl" and [one["value"]["title"] for one in lines] == ["Silent Garden", "Paper Tower"]
    expect(page.get_by_text("2 records exported")).to_be_visible()
    page.get_by_label("Search by meaning").fill("a tower made of paper")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".list > li").first).to_contain_text("similarity")
    name, found = exported(page, "Export what is shown")
    assert name == "experiences-tiny-u.2-found.jsonl" and found[0]["value"]["title"] == "Paper Tower"
    # Another home takes the records up as they were.
    (tmp_path / "lines.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines), encoding="utf-8")
    done = billp(tmp_path, "memory", "import", str(tmp_path / "lines.jsonl"))
    assert done.returncode == 0, done.stderr
    with ChromaStore(tmp_path / "memory") as store:
        kept = store.records()
    assert [(list(one.namespace), one.key, one.value) for one in kept] == [
        (one["namespace"], one["key"], one["value"]) for one in lines
    ]
    assert tab.overflow == 0 and tab.faults == []
    tab.close()


def test_pairs_of_an_item_are_counted_with_their_distances(browser: Browser, address: str, home: Path) -> None:
    world = World.load(home / "worlds" / "tiny")
    first, second, third = list(world.catalogue)[:3]
    tab = Tab(browser, address, PHONE)
    page = tab.page
    tab.go("memory")
    page.get_by_label("Kind").select_option("experiences")
    page.get_by_text("Pairs of an item", exact=True).click()
    page.get_by_label("Title, or a part of it").fill(first.title)
    page.get_by_role("button", name="Show pairs").click()
    pairs = page.get_by_role("region", name="Pairs")
    expect(pairs.locator("tbody tr")).to_have_count(2)
    told = [row.split("\t") for row in pairs.locator("tbody tr").all_inner_texts()]
    # After the first item came the second twice: the user stayed once, and left once; the third item came before it.
    assert told == [
        [second.title, "1", "1", f"{world.logs.distance(first, second):.2f}"],
        [third.title, "1", "0", f"{world.logs.distance(first, third):.2f}"],
    ]
    # A part of several titles offers these to choose from.
    page.get_by_label("Title, or a part of it").fill("e")
    page.get_by_role("button", name="Show pairs").click()
    page.locator("details .list").get_by_role("button", name=second.title, exact=True).click()
    expect(pairs.locator("caption")).to_have_text(f"Pairs of {second.title}")
    page.get_by_label("Title, or a part of it").fill("no such title")
    page.get_by_role("button", name="Show pairs").click()
    expect(page.get_by_text("No experience here is of such an item.")).to_be_visible()
    assert tab.overflow == 0 and tab.faults == []
    tab.close()


def test_records_are_found_by_meaning_and_a_user_is_forgotten(browser: Browser, address: str) -> None:
    tab = Tab(browser, address, PHONE)
    page = tab.page
    tab.go("memory")
    page.get_by_label("Kind").select_option("experiences")
    page.get_by_label("Search by meaning").fill("a tower made of paper")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".list > li").first).to_contain_text("similarity")
    assert items(page)[0].startswith("Paper Tower")
    assert tab.overflow == 0
    page.get_by_label("User").select_option(label="u.2")
    page.get_by_role("button", name="Forget the user u.2").click()
    expect(page.get_by_text("2 records of all kinds")).to_be_visible()
    page.get_by_role("button", name="Delete them all").click()
    expect(page.get_by_text("that are left: 0")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_label("User").get_by_role("option")).to_have_text(["all", "p"])
    assert tab.faults == []
    tab.close()


def test_other_names_of_this_machine_and_invalid_requests_are_refused(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/app/", headers={"host": "evil.example"}).status_code == 400
        for path, body in (
            ("/store/items/search", {"limit": -1}),
            ("/store/items/search", {"namespace_prefix": 5}),
            ("/store/namespaces", {"max_depth": 0}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 422 and answer.json()["detail"], answer.text
        assert client.request("DELETE", "/store/items", json={"namespace": [], "key": "x"}).status_code == 422


def test_namespaces_are_listed_to_the_end_and_searches_prolong_no_life(browser: Browser, address: str) -> None:
    tab = Tab(browser, address)
    page = tab.page
    # A full page of one user, then another user: a browser takes long to draw thousands.
    users = [*[["experiences", "tiny", "first"]] * 5_000, ["experiences", "tiny", "last"]]
    searches: list[dict[str, Any]] = []

    def listed(route: Route) -> None:
        wanted = body_of(route)
        route.fulfill(json={"namespaces": users[wanted["offset"] :][: wanted["limit"]]})

    def searched(route: Route) -> None:
        searches.append(body_of(route))
        route.fulfill(json={"items": []})

    page.route("**/store/namespaces", listed)
    page.route("**/store/items/search", searched)
    # The page may have asked before.
    page.reload()
    expect(page.get_by_label("User").get_by_role("option")).to_have_text(["all", "first", "last"])
    page.get_by_label("Search by meaning").fill("a tower")
    page.get_by_role("button", name="Search").click()
    page.get_by_label("User").select_option("last")
    page.get_by_role("button", name="Forget the user last").click()
    expect(page.get_by_text("0 records of all kinds")).to_be_visible()
    assert len(searches) >= 3 and all(one["refresh_ttl"] is False for one in searches)
    tab.close()


def test_an_account_is_asked_for_by_the_name_that_visits_write(browser: Browser, address: str) -> None:
    tab = Tab(browser, address)
    page = tab.page
    name = "o'brien (*)!~"
    prefixes: list[list[str]] = []

    def listed(route: Route) -> None:
        # The page may ask once more before it is loaded again with accounts.
        prefixes.append(body_of(route).get("prefix", []))
        route.fulfill(json={"namespaces": []})

    page.route("**/app/api/server", lambda route: route.fulfill(json={"graphs": False, "accounts": True}))
    page.route("**/app/api/account", lambda route: route.fulfill(json={"account": name}))
    page.route("**/store/namespaces", listed)
    page.reload()
    # A token that no header admits is refused, and the server is not taken for lost.
    page.get_by_label("Token").fill("fünf-€-0123456789")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("^A token has ASCII"))
    page.get_by_label("Token").fill("right-0123456789")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No record yet")).to_be_visible()
    own = [["lessons", escape(people_space("tiny")), escape(name)], ["lessons", escape(account_space(name, "tiny"))]]
    assert all(one in prefixes for one in own), prefixes
    assert tab.faults == []
    tab.close()


def test_a_port_in_use_is_named(home: Path, address: str) -> None:
    port = address.rsplit(":", 1)[1]
    done = billp(home, "view", "--port", port)
    assert done.returncode == 2 and f"port {port} cannot be used" in done.stderr and "--port" in done.stderr
