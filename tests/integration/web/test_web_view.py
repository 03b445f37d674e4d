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
from tests.chromium import needs_chromium
from tests.commands import BILLP, billp
from tests.processes import line_of, started
from tests.web.browser import PATIENCE_MS, PHONE, Tab, opened_browser

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)

OF = {"user_id": "1", "situation": "Heat\nAlien"}
LESSONS = [
    Lesson(**OF, visit="v1", text="Keep close.", length=3, total_reward=9.0),
    Lesson(**OF, visit="v2", text="Keep <i>apart</i>.", length=5, total_reward=20.0, replaces=["a"]),
    Lesson(**OF, visit="v3", text="Mix categories.", length=4, total_reward=12.0),
]
STUDY = ("study", "--world", "tiny", "--train", "4", "--cohort", "2", "--max-steps", "5", "--variants", "random,billp")


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
            experience = Experience(
                **OF | {"user_id": "u.2", "situation": title},
                visit=f"w{number}",
                plan="Recommend Comedy.",
                title=title,
                genres=["Comedy"],
                predicted=4.0,
                distance=1.0,
                reward=4.0,
                advantage=-1.5,
                left=False,
            )
            where = namespace("experiences", "tiny", "u.2")
            store.put(where, str(number), experience.model_dump(), index=[*experience.indexed])
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as opened:
        yield opened


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
    expect(page.get_by_label("Kind").get_by_role("option")).to_have_text(["lessons"])
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
    tab.go("memory")
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
