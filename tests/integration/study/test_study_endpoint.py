"""Study with roles behind an endpoint: failing visits, an endpoint that disappears, a budget."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.study import run_study
from graph.study.run import visits_done
from graph.study.runners import VisitFailedError
from graph.study.schedule import visitors
from graph.study.settings import Cell, StudySettings
from nodes.context import Context
from nodes.llm.endpoint.budget import BudgetSpentError
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.tools.open_world import load_world
from sim.errors import BadInputError
from tests.scripted import Asked, Endpoint, Failure, Reply, by_rules, serving

pytestmark = pytest.mark.slow

MODEL = "openai:some-model"
SETTINGS = StudySettings(
    world="tiny", variants=("billp",), train=4, test=3, cohort=2, max_steps=6, context=Context(model=MODEL)
)
OUTAGE = Failure(401, "closed")


@pytest.fixture
def endpoint(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint that answers as `rules` does."""
    with serving(by_rules) as endpoint:
        for name, value in {"OPENAI_BASE_URL": endpoint.url, "BILLP_FIRST_WAIT": "0.001"}.items():
            monkeypatch.setenv(name, value)
        shared_endpoint.cache_clear()
        yield endpoint
    shared_endpoint.cache_clear()


def silent(cell: Cell, batch: str, done: int, total: int) -> None:
    pass


def run(name: str, settings: StudySettings = SETTINGS, **options: Any) -> dict[str, Any]:
    # One visit at a time, so that requests come in order.
    folder = run_study(settings, name, concurrency=1, processes=1, progress=silent, **options)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def visits(home: Path, name: str) -> bytes:
    return (home / "runs" / name / "visits.jsonl").read_bytes()


def test_a_study_goes_on_without_a_visit_that_fails_and_says_so(endpoint: Endpoint, home: Path) -> None:
    world = load_world("tiny")
    unlucky = visitors(world, "dev", SETTINGS.test, 0)[1]
    history = [world.catalogue.item(item).title for item in world.users[unlucky].history]

    def script(asked: Asked) -> Reply | Failure:
        whose = asked.facts["role"] == "planner" and all(title in asked.prompt for title in history[-5:])
        return Failure(400, "this prompt is not allowed") if whose else by_rules(asked)

    endpoint.script = script
    (row,) = run("x")["rows"]
    assert (row["failed"], row["visits"]) == (1, SETTINGS.test - 1)
    (failed,) = [json.loads(line) for line in (home / "runs" / "x" / "failed.jsonl").read_text().splitlines()]
    assert (failed["user_id"], failed["split"]) == (unlucky, "dev") and "this prompt is not allowed" in failed["failed"]
    endpoint.script = by_rules
    (whole,) = run("whole")["rows"]
    assert (whole["failed"], whole["visits"]) == (0, SETTINGS.test)
    other = [line for line in visits(home, "whole").splitlines() if json.loads(line)["user_id"] != unlucky]
    assert visits(home, "x").splitlines() == other
    assert not (home / "runs" / "whole" / "failed.jsonl").exists()


def test_a_study_whose_endpoint_goes_away_goes_on_amid_a_visit_when_it_is_back(endpoint: Endpoint, home: Path) -> None:
    run("whole")
    needed = len(endpoint.asked)
    answered = 0

    def until(most: int) -> Any:
        def script(asked: Asked) -> Reply | Failure:
            nonlocal answered
            if answered == most:
                return OUTAGE
            answered += 1
            return by_rules(asked)

        return script

    for most in (5, needed // 3, needed // 2, needed - 3):
        endpoint.script = until(most)
        with pytest.raises(VisitFailedError, match="closed"):
            run("x")
    assert 0 < visits_done("x") < 7
    endpoint.script = by_rules
    before = len(endpoint.asked)
    run("x")
    # No answered request is sent again.
    assert answered + len(endpoint.asked) - before == needed
    assert visits(home, "x") == visits(home, "whole")


def test_a_visit_that_fails_over_and_over_is_left_out_when_asked(endpoint: Endpoint, home: Path) -> None:
    one_by_one = SETTINGS.model_copy(update={"cohort": 1, "train": 1, "test": 2})
    run("whole", one_by_one)
    needed = len(endpoint.asked)
    endpoint.asked.clear()
    # The last call of the study fails at every attempt.
    endpoint.script = lambda asked: by_rules(asked) if asked.number < needed - 1 else OUTAGE
    for _ in range(2):
        with pytest.raises(VisitFailedError, match="closed"):
            run("x", one_by_one)
    (row,) = run("x", one_by_one, skip_failed=True)["rows"]
    assert (row["failed"], row["visits"]) == (1, 1)


def test_a_study_stops_before_it_costs_more_and_goes_on_with_more(
    endpoint: Endpoint, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.json"
    # Ten cents a call, since the endpoint reports 100 tokens; before a call, the estimate is some ten times as high.
    prices.write_text('{"some-model": {"input": 1000, "output": 0}}')
    monkeypatch.setenv("BILLP_PRICES", str(prices))
    with pytest.raises(BudgetSpentError, match=r"more than the \$4 of --max-cost"):
        run("x", max_cost=4.0)
    assert 1 < 0.1 * len(endpoint.asked) <= 4
    spent = len(endpoint.asked)
    with pytest.raises(BudgetSpentError):
        run("x", max_cost=4.0)
    assert len(endpoint.asked) == spent
    # The maximum cost of a call is known in advance only because the request limits the tokens.
    assert {asked.body["max_completion_tokens"] for asked in endpoint.asked} == {2_000}
    (row,) = run("x", max_cost=1000.0)["rows"]
    needed = len(endpoint.asked)
    assert row["cost"] == pytest.approx(0.1 * needed) and row["usage"]["calls"] == needed
    run("whole")
    assert not any("max_completion_tokens" in asked.body for asked in endpoint.asked[needed:])
    assert len(endpoint.asked) == 2 * needed and visits(home, "x") == visits(home, "whole")


def test_a_budget_needs_prices_and_calls_from_here(endpoint: Endpoint) -> None:
    with pytest.raises(BadInputError, match="needs the price of openai:some-model"):
        run("x", max_cost=1.0)
    known = SETTINGS.model_copy(update={"context": Context(model="openai:gpt-4o-mini")})
    with pytest.raises(BadInputError, match="cannot limit the calls of a server"):
        run("x", known, max_cost=1.0, server="http://127.0.0.1:9")
    (row,) = run("x")["rows"]
    assert row["cost"] is None
