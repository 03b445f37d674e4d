"""HTML report of a study in a browser: complete, without errors or requests, and as narrow as a phone."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.ablation import PARTS, WHOLE
from graph.cli.study import COMPARED, comma_separated
from graph.report.html import report_page
from graph.study import run_study
from graph.study.settings import Cell, StudySettings
from tests.chromium import browser, needs_chromium, open_page
from tests.hostile import HOSTILE
from tests.unit.graph.report.test_html import MEASURED, row, study
from tests.unit.graph.report.test_html import line as visit_of

pytestmark = pytest.mark.slow

VARIANTS = ("billp", "act_only", "random", "greedy", "diverse_greedy", "oracle")
VARIANTS_WITH_MEMORY = ("reflexion", "billp", WHOLE)
STUDY = StudySettings(world="tiny", variants=VARIANTS, train=6, test=5, cohort=3, max_steps=15)
# Sections with content in the study above.
SECTIONS = [
    "Results",
    "Return by variant",
    "Reasons for leaving",
    "One visit, genre by genre",
    "Lessons, and what they changed",
    "The Critic as a predictor",
    "Costs",
]
HEADINGS = "[...document.querySelectorAll('h2')].filter(one => one.offsetHeight).map(one => one.textContent)"
PAGE_WIDTH = "document.documentElement.scrollWidth"
# For each picture: its width on the page, and the hidden width that would need scrolling.
PICTURES = """[...document.querySelectorAll('figure')].map(
    one => [one.querySelector('svg').getBoundingClientRect().width, one.scrollWidth - one.clientWidth])"""
# For each table: its name, the width that it needs and the visible one.
WIDTHS = """[...document.querySelectorAll('.sideways')].map(
    one => [one.getAttribute('aria-label'), one.scrollWidth, one.clientWidth])"""
# For each table: whether it is wider than the page, and the height of the line that says so.
HINTS = """[...document.querySelectorAll('.sideways')].map(one => [one.scrollWidth > one.clientWidth,
    one.querySelector('table').getBoundingClientRect().top - one.getBoundingClientRect().top])"""
OPENED = "document.querySelectorAll('details').forEach(one => one.open = true)"
TABLES = "[...document.querySelectorAll('.sideways')].map(one => one.scrollWidth > 390)"
ACTIVE = "document.querySelectorAll('script, img, iframe, object, embed, form, [onload], [onerror]').length"
INK = "getComputedStyle(document.querySelector('svg text')).fill"


@pytest.fixture(scope="module")
def studied(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def quiet(cell: Cell, batch: str, done: int, total: int) -> None:
        pass

    base = tmp_path_factory.mktemp("reported") / "home"
    shutil.copytree(built_home, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "BILLP_HOME", str(base))
        return run_study(STUDY, "a", concurrency=4, processes=2, progress=quiet)


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("profile")) as address:
        yield address


@needs_chromium
@pytest.mark.parametrize("width", [390, 1200])
def test_a_study_leaves_a_page_that_shows_every_section(studied: Path, devtools: str, width: int) -> None:
    page = studied / "report.html"
    assert page.stat().st_size < 2_000_000
    seen = open_page(devtools, page, width, (HEADINGS, PAGE_WIDTH, PICTURES, TABLES))
    headings, page_width, pictures, tables = seen.answers
    assert headings == SECTIONS
    assert seen.faults == [] and seen.fetched == []
    assert page_width <= width
    assert len(pictures) == 4 and all(drawn > 250 and beyond <= 0 for drawn, beyond in pictures)
    assert len(tables) == 6 and any(tables)


@needs_chromium
def test_no_table_is_wider_than_a_laptop_or_hides_its_numbers_on_a_phone(devtools: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_page(*widest_study()), encoding="utf-8")
    wide = open_page(devtools, page, 1280, (OPENED, WIDTHS, PAGE_WIDTH))
    assert [name for name, *_ in wide.answers[1]] == [
        "Results of each variant",
        "What each variant took",
        "What each part is worth",
        "Users who come back",
        "Rounds of the visit",
        "Lessons",
        "The Critic's predictions",
        "Costs",
    ]
    assert [one for one in wide.answers[1] if one[1] > one[2]] == [] and wide.answers[2] <= 1280
    # The names of the rows stay in view, and leave most of a phone to the numbers beside them.
    names = "Math.max(...[...document.querySelectorAll('tbody th')].map(one => one.offsetWidth))"
    narrow = open_page(devtools, page, 390, (OPENED, names, PAGE_WIDTH))
    assert narrow.answers[1] < 390 / 2 and narrow.answers[2] == 390


@needs_chromium
def test_a_table_says_that_it_scrolls_only_where_it_is_wider_than_the_page(devtools: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report_page(*widest_study()), encoding="utf-8")
    # Each table of the widest study is wider than a phone, and none wider than a laptop.
    for width, scrolls in ((390, True), (1280, False)):
        hints = open_page(devtools, page, width, (OPENED, HINTS)).answers[1]
        assert len(hints) == 8 and {wider for wider, _ in hints} == {scrolls}
        assert all((height > 15) == wider and (wider or height == 0) for wider, height in hints), hints


def widest_study() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the results and visits of a study of all variants, parts and two controls, with large numbers."""
    interval = [-1_200.5, -1_000.5]
    large = MEASURED | {
        **{name: {"difference": -1_113.2, "ci": interval, "users": 2} for name in ("minus_billp", "learned")},
        **{"total_reward": 1_234.5, "total_reward_ci": [1_100.5, 1_300.5], "length": 1_234.5, "visits": 6_000},
        **{"tuning_visits": 12_520, "training_steps": 1_000_000, "training_visits": 150_000, "failed": 120},
        **{"prompt_tokens_per_step": 12_345.0, "calls_per_step": 14.5, "cost": 1_234.5678},
        "usage": dict.fromkeys(("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "retries"), 10**9),
    }
    rows = []
    for variant in comma_separated(COMPARED):
        for part in (None, *(PARTS if variant == WHOLE else ())):
            worth = {"minus_full": large["minus_billp"]} if part else {}
            for memory in ("full", "prior", "empty") if variant in VARIANTS_WITH_MEMORY else ("full",):
                rows.append(row(variant, **large, **worth, without=part, memory=memory))
    lessons = [{"text": "Recommend items at a distance of at least 0.6 from the last four. " * 3}]
    visits = [
        visit_of(one["variant"], 1_234.5 + number, without=one["without"], memory=one["memory"], lessons=lessons)
        for one in rows
        for number in range(2)
    ]
    return study(*rows), visits


@needs_chromium
def test_pictures_are_as_light_as_the_page_is_dark(studied: Path, devtools: str) -> None:
    inks = [open_page(devtools, studied / "report.html", 390, (INK,), dark=dark).answers[0] for dark in (False, True)]
    assert inks == ["rgb(31, 35, 40)", "rgb(230, 233, 238)"]


@needs_chromium
def test_what_comes_from_outside_stays_text(studied: Path, devtools: str, tmp_path: Path) -> None:
    results, lines = read(studied)
    attack = "</title></style></svg><script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(1)>$a_1$"
    results["world"] = attack
    names = [attack, *HOSTILE]
    for line in lines:
        line["user_id"] = attack
        line["lessons"] = [{"text": one} for one in names]
        for number, step in enumerate(line["steps"]):
            hostile = names[number % len(names)]
            step |= {"title": hostile, "plan": hostile, "genres": [hostile, attack + str(number % 3)]}
    page = tmp_path / "report.html"
    page.write_text(report_page(results, lines), encoding="utf-8")
    seen = open_page(devtools, page, 390, (HEADINGS, PAGE_WIDTH, ACTIVE, "document.body.innerText"))
    headings, page_width, active, text = seen.answers
    assert (headings, page_width, active) == (SECTIONS, 390, 0)
    assert seen.faults == [] and seen.fetched == []
    assert attack in text


@needs_chromium
def test_a_page_that_does_fetch_or_run_something_is_noticed(devtools: str, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('no'); nothing.at.all</script><img src='missing.png'>")
    seen = open_page(devtools, page, 390, ())
    assert len(seen.faults) >= 2 and [url.rsplit("/", 1)[1] for url in seen.fetched] == ["missing.png"]


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((folder / "results.json").read_text(encoding="utf-8")), [json.loads(line) for line in lines]
