"""Benchmark of the page in the browser: `python -m tests.benchmarks.page`. It prints the results and asserts nothing.

It starts a LangGraph server on MovieLens with an empty memory, opens the page in the system's Chromium, and watches a
visit of 100 rounds live. The figures are those of the browser: `Performance.getMetrics` and entries of the timeline.
"""

import gzip
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, CDPSession, Page, expect
from rich.console import Console

from graph.web.page import STATIC
from nodes.tools.open_world import close_worlds, open_world_now
from tests.servers import Server, serving
from tests.waiting import until
from tests.web.browser import DESK, PATIENCE_MS, opened_browser

WORLD, USER, ROUNDS = "movielens", "203", 100
"""A visit of this user lasts for all rounds."""
OPENINGS = 7
PAUSE = 0.2
# Notes when the first view is there, when its form is, and the longest task of the page's thread.
NOTES = """
new PerformanceObserver(list => {
    for (const one of list.getEntries()) window.longest = Math.max(window.longest ?? 0, one.duration);
}).observe({ type: "longtask", buffered: true });
new MutationObserver(() => {
    const ready = [...document.querySelectorAll("main button")].some(one => one.textContent === "Start the visit");
    if (ready) window.formAt ??= performance.now();
    if (document.querySelector("main h1")) window.viewAt ??= performance.now();
}).observe(document, { childList: true, subtree: true });
"""
# Bytes with headers, as the server sent them.
SENT = "performance.getEntries().reduce((sum, one) => sum + (one.transferSize ?? 0), 0)"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


@contextmanager
def served() -> Iterator[Server]:
    """Run a server with the world of the visit, and with no memory."""
    base = Path(tempfile.mkdtemp(prefix="billp-page-"))
    os.environ["BILLP_HOME"] = str(base / "built")
    try:
        open_world_now(WORLD)
        close_worlds()
        (base / "served").mkdir()
        with serving(base / "served", base / "built") as server:
            yield server
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def opened(browser: Browser, server: Server) -> Iterator[Page]:
    """Open the page in a browser without a cache, and wait for the form of its first view."""
    context = browser.new_context(viewport={"width": DESK[0], "height": DESK[1]})
    context.add_init_script(NOTES)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{server.url}/app/")
    expect(page.get_by_role("button", name="Start the visit")).to_be_visible()
    yield page
    context.close()


def first_view(browser: Browser, server: Server, console: Console) -> None:
    """Measure how long the first view takes, each time without a cache."""
    painted, begun, ready, sent = [], [], [], []
    for _ in range(OPENINGS):
        with opened(browser, server) as page:
            painted.append(page.evaluate(PAINTED))
            begun.append(page.evaluate("window.viewAt"))
            ready.append(page.evaluate("window.formAt"))
            sent.append(page.evaluate(SENT))
    show(console, "first paint", times(painted))
    show(console, "first view: frame and title", times(begun))
    show(console, "form of a visit with the settings of its graph", times(ready))
    show(console, "bytes sent for it", f"{statistics.median(sent) / 1000:.0f} kB")
    files = [file.read_bytes() for file in STATIC.rglob("*") if file.is_file()]
    compressed = sum(len(gzip.compress(one)) for one in files)
    show(console, "files of the page, each compressed by gzip", f"{compressed / 1000:.0f} kB")


def live_visit(browser: Browser, server: Server, console: Console) -> None:
    """Measure the work of the page's thread while it shows a visit, in its first and in its second half."""
    with opened(browser, server) as page, httpx.Client(base_url=server.url, trust_env=False) as client:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.get_by_label("World", exact=True).fill(WORLD)
        page.get_by_label("User id").fill(USER)
        page.get_by_label("Max steps").fill(str(ROUNDS))
        page.evaluate("window.longest = 0")
        begun = time.perf_counter()
        metrics = [measured(session)]
        page.get_by_role("button", name="Start the visit").click()
        page.wait_for_url("**/#/visit/*")
        thread = f"/threads/{page.url.rsplit('/', 1)[1]}"
        # The server is asked, not the page, so that the questions do not count.
        until(lambda: rounds(client, thread) >= ROUNDS / 2, "the visit's second half", pause=PAUSE)
        half, middle = rounds(client, thread), measured(session)
        until(lambda: client.get(thread).raise_for_status().json()["status"] != "busy", "the end", pause=PAUSE)
        expect(page.locator(".card")).to_have_count(total := rounds(client, thread))
        seconds = time.perf_counter() - begun
        metrics += [middle, measured(session)]
        longest = page.evaluate("window.longest")
    show(console, "visit", f"{total} rounds in {seconds:.0f} s")
    for name, field in (("script", "ScriptDuration"), ("style and layout", "Layout"), ("all tasks", "TaskDuration")):
        parts = [(end[field] - start[field]) * 1000 for start, end in pairwise(metrics)]
        first, second = parts[0] / half, parts[1] / (total - half)
        show(console, f"{name}, a round", f"{sum(parts) / total:.1f} ms (halves: {first:.1f}, {second:.1f})")
    show(console, "longest task", f"{longest:.0f} ms" if longest else "under 50 ms")


def rounds(client: httpx.Client, thread: str) -> int:
    """Return the number of finished rounds of a visit."""
    values = client.get(f"{thread}/state").raise_for_status().json()["values"] or {}
    return len(values.get("steps") or [])


def measured(session: CDPSession) -> dict[str, float]:
    """Return the browser's sums of seconds of the page's thread."""
    found: dict[str, Any] = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return found | {"Layout": found["LayoutDuration"] + found["RecalcStyleDuration"]}


def times(values: list[float]) -> str:
    """Describe some times in milliseconds."""
    return f"{statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f}, {len(values)} times)"


def show(console: Console, label: str, value: str) -> None:
    """Print a figure."""
    console.print(f"{label:<48} {value}")


def main() -> None:
    """Run all measurements."""
    expect.set_options(timeout=PATIENCE_MS)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{os.cpu_count()} cores, window {DESK[0]} x {DESK[1]}, model rules on {WORLD}")
    with served() as server, opened_browser() as browser:
        first_view(browser, server, console)
        live_visit(browser, server, console)


if __name__ == "__main__":
    main()
