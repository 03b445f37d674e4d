"""Prices of calls."""

from pathlib import Path

import pytest

from nodes.llm.endpoint.prices import Price, price_of
from sim.errors import BadInputError


def test_the_cost_of_a_call_is_the_sum_of_its_three_kinds_of_tokens() -> None:
    price = Price(input=2.0, cached=0.5, output=8.0)
    # 600 fresh tokens at 2, 400 cached at 0.5 and 100 generated at 8 dollars per million.
    assert price.cost(1000, 400, 100) == pytest.approx((1200 + 200 + 800) / 1e6)
    # Without any fresh token, and with a provider that counts more cached ones than it was asked about.
    assert price.cost(400, 500, 0) == price.cost(500, 500, 0) == pytest.approx(250 / 1e6)
    assert Price(input=2.0, output=8.0).cost(1000, 400, 0) == pytest.approx(0.002)


def test_published_prices_are_known_and_others_are_not() -> None:
    known = price_of("openai:gpt-4o-mini")
    assert known is not None and 0 < known.input < known.output and known.cached is not None
    assert known.cached < known.input
    # Per million tokens: this model has always cost four times as much for a reply as for a prompt.
    assert known.output == pytest.approx(4 * known.input) and known.input == pytest.approx(2 * known.cached)
    assert price_of("openai:gpt-4o-mini-2024-07-18") == known
    assert price_of("openai:a-model-of-my-own") is None
    assert price_of("rules") == Price(input=0, output=0)


def test_a_table_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"gpt-4o-mini": {"input": 1, "output": 2}, "own": {"input": 0, "output": 0}}')
    monkeypatch.setenv("BILLP_PRICES", str(file))
    assert price_of("openai:gpt-4o-mini") == Price(input=1, output=2)
    assert price_of("openai:own") == Price(input=0, output=0)
    assert price_of("openai:gpt-4o") is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"m": {"input": -1, "output": 2}}', "m.input"),
        ('{"m": {"input": "NaN", "output": 2}}', "m.input"),
        ('{"m": {"input": 1e999, "output": 2}}', "m.input"),
        ('{"m": {"input": 1}}', "m.output"),
        ('{"m": {"input": 1, "output": -2}}', "m.output"),
        ('{"m": {"input": 1, "cached": -1, "output": 2}}', "m.cached"),
        ('{"m": {"input": 1, "output": 2, "cache": 1}}', "m.cache "),
        ("[1]", "not a table of prices"),
        ("{", "not a table of prices"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    monkeypatch.setenv("BILLP_PRICES", str(file))
    with pytest.raises(BadInputError, match=why):
        price_of("openai:m")


def test_a_table_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLP_PRICES", "/nowhere/prices.json")
    with pytest.raises(BadInputError, match="/nowhere/prices.json, which cannot be read"):
        price_of("openai:m")
