"""A person's visit in the browser, on a phone, against a real `langgraph dev` with accounts."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import needs_chromium
from tests.servers import GUARDED, TOKEN_OF, Server, authorization, serving
from tests.web.browser import PATIENCE_MS, PHONE, Tab

pytestmark = [pytest.mark.slow, needs_chromium]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def guarded(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server with authentication of these tests alone: other tests leave records of the same accounts."""
    with serving(tmp_path_factory.mktemp("guarded"), built_home, configuration=GUARDED) as server:
        yield server


def signed_in(browser: Browser, server: Server, name: str) -> Tab:
    tab = Tab(browser, server.url, PHONE)
    tab.page.get_by_label("Token").fill(TOKEN_OF[name])
    tab.page.get_by_role("button", name="Sign in").click()
    expect(tab.page.get_by_role("button", name="Sign out")).to_be_visible()
    tab.go("you")
    return tab


def begin(page: Page, wishes: str) -> None:
    page.get_by_label("What do you wish for?").fill(wishes)
    page.get_by_text("World, rounds and model").click()
    page.get_by_label("World", exact=True).fill("tiny")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_text("Round 1", exact=True)).to_be_visible()


def test_a_person_is_recommended_to_and_sees_only_what_is_theirs(browser: Browser, guarded: Server) -> None:
    ann, bob = signed_in(browser, guarded, "ann"), signed_in(browser, guarded, "bob")
    page = ann.page
    assert page.get_by_label("Your name").count() == 0
    begin(page, "comedy, please")
    offer = page.get_by_role("article")
    expect(offer.locator(".tag").filter(has_text="Comedy")).to_be_visible()
    expect(offer).to_contain_text("you asked for Comedy")
    first = offer.get_by_role("heading").inner_text()
    page.get_by_label("Comment").fill("only <b>between</b> us")
    page.get_by_role("button", name="4 of 5").click()
    expect(page.get_by_text("Round 2", exact=True)).to_be_visible()
    expect(page.locator(".list")).to_contain_text(f"{first} 4 of 5")
    page.get_by_text("Your profile, and the next round").click()
    expect(page.get_by_label("Your profile", exact=True)).to_have_value(
        f"comedy, please\nonly <b>between</b> us [on {first}]"
    )
    page.get_by_label("Your profile", exact=True).fill("only <b>between</b> us\nno horror")
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Round 3", exact=True)).to_be_visible()
    page.get_by_text("Your profile, and the next round").click()
    expect(page.get_by_label("Your profile", exact=True)).to_have_value("only <b>between</b> us\nno horror")
    assert ann.overflow == 0
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_text("The visit is over.")).to_be_visible()
    address = page.url
    assert TOKEN_OF["ann"] not in address and page.evaluate("localStorage.length") == 0
    # Her memory, by kind.
    ann.go("memory")
    page.get_by_label("Kind").select_option("statements")
    expect(page.locator(".list")).to_contain_text("only <b>between</b> us")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export what is shown").click()
    lines = [json.loads(line) for line in Path(saved.value.path()).read_text(encoding="utf-8").splitlines()]
    assert len(lines) >= 3 and {tuple(one["namespace"]) for one in lines} == {("statements", "people:tiny", "ann")}
    page.get_by_label("Kind").select_option("experiences")
    page.get_by_text("Pairs of an item", exact=True).click()
    page.get_by_label("Title, or a part of it").fill(first)
    page.get_by_role("button", name="Show pairs").click()
    expect(page.get_by_role("region", name="Pairs").locator("tbody tr")).to_have_count(1)
    assert ann.faults == []
    # Her experiences are for her alone.
    query = {"prefix": ["experiences", "people:tiny", "ann"], "title": first}
    refused = httpx.post(f"{guarded.url}/app/api/pairs", json=query, headers=authorization("bob"), trust_env=False)
    assert refused.status_code == 403 and first not in refused.text
    # Bob sees neither her visit nor her memory, by her address either.
    bob.go("memory")
    expect(bob.page.get_by_text("No record yet")).to_be_visible()
    assert bob.faults == []
    bob.page.goto(address)
    expect(bob.page.get_by_role("alert").first).to_be_visible()
    assert "between" not in bob.page.content()
    # She comes back: the profile is kept. Then she deletes all of it.
    ann.go("you")
    # Her records are shown without any thread of hers.
    with httpx.Client(base_url=guarded.url, trust_env=False, headers=authorization("ann")) as client:
        for thread in client.post("/threads/search", json={"limit": 100}).json():
            client.delete(f"/threads/{thread['thread_id']}").raise_for_status()
    ann.go("memory")
    page.reload()
    expect(page.get_by_label("Kind")).to_be_visible()
    ann.go("you")
    begin(page, "")
    page.get_by_text("Your profile, and the next round").click()
    expect(page.get_by_label("Your profile", exact=True)).to_have_value("only <b>between</b> us\nno horror")
    ann.go("memory")
    page.get_by_label("User").select_option("ann")
    page.get_by_role("button", name="Forget the user ann").click()
    page.get_by_role("button", name="Delete them all").click()
    expect(page.get_by_text("that are left: 0")).to_be_visible()
    assert ann.faults == []
    ann.close()
    bob.close()


def test_without_a_valid_token_there_is_nothing(browser: Browser, guarded: Server) -> None:
    tab = Tab(browser, guarded.url, PHONE)
    page = tab.page
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert tab.violations == [] and tab.faults == []
    page.get_by_label("Token").fill("wrong-token-0123456789")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("asks for a valid token")).to_be_visible()
    # The token ends with its tab.
    page.get_by_label("Token").fill(TOKEN_OF["bob"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Start the visit")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    tab.close()
