"""Cut of a prompt: same result as the first algorithm, in one pass."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from nodes.llm import prompting
from nodes.llm.prompting import (
    ROUNDS_CUT,
    ROUNDS_LISTED,
    Facts,
    as_data,
    build_messages,
    read_facts,
    render,
    summarize_rounds,
)
from nodes.llm.text.tokens import count_tokens
from nodes.prompt_facts import WISHES_TOKENS, wish_facts
from nodes.state import Profile


def first_messages(prompt: str, facts: Facts, limit: int, rounds_listed: int | None) -> list[BaseMessage]:
    """Cut a prompt like the first algorithm: render the whole prompt for each cut until it fits."""
    room = limit - count_tokens(prompt)
    count = len(facts.get("rounds", []))
    spare = 0 if rounds_listed is None else max(0, count - rounds_listed)
    for cut in range(-(-spare // ROUNDS_CUT) * ROUNDS_CUT, count + ROUNDS_CUT, ROUNDS_CUT):
        block = render(facts if cut == 0 else first_shortened(facts, min(cut, count)))
        if count_tokens(block) <= room:
            break
    return [SystemMessage(prompt), HumanMessage(block)]


def first_shortened(facts: Facts, cut: int) -> Facts:
    shortened: Facts = {}
    for key, value in facts.items():
        if key == "rounds":
            shortened |= summarize_rounds(value[:cut]) | {"rounds": value[cut:]}
        else:
            shortened[key] = value
    return shortened


texts = st.text(st.characters(codec="utf-8"), max_size=30) | st.text('aé\n千🎮`<"\\ ', max_size=60)
numbers = st.floats(-5, 5).map(lambda number: round(number, 2)) | st.integers(-5, 5).map(float)
scalars: st.SearchStrategy[Any] = st.none() | numbers | texts
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "title": texts,
    "distance": st.none() | numbers,
    "reward": numbers,
    "genres": st.lists(st.sampled_from(["Drama", "War", "Comedy", "千と千尋", 'A "B"', "Film-Noir"]), max_size=4),
}
# Rounds as in the prompts of Planner and Reflector, Actor and Critic, LLM as the user, and Critic of titles only.
TOLD = [
    ("title", "distance", "reward", "genres"),
    ("title", "distance", "reward"),
    ("title", "reward", "genres"),
    ("title",),
]


@st.composite
def whole_facts(draw: st.DrawFn) -> Facts:
    columns = draw(st.sampled_from(TOLD))
    rows = st.tuples(*(COLUMNS[name] for name in columns)).map(lambda row: dict(zip(columns, row, strict=True)))
    # Few distinct rows, repeated, so that long visits are drawn quickly.
    kinds = draw(st.lists(rows, min_size=1, max_size=6))
    order = draw(st.lists(st.integers(0, len(kinds) - 1), max_size=60))
    others = st.dictionaries(
        st.sampled_from(["role", "history", "lessons", "outcome", "plan", "now"]),
        scalars | st.lists(st.fixed_dictionaries({"text": texts, "support": numbers}), max_size=3),
        max_size=4,
    )
    rounds: Facts = {"rounds": [kinds[kind] for kind in order]} if draw(st.integers(0, 9)) else {}
    return {**draw(others), **rounds, **({"end": 0} if draw(st.booleans()) else {})}


@given(
    prompt=texts,
    facts=whole_facts(),
    limit=st.integers(0, 900) | st.integers(900, 3_000),
    rounds_listed=st.none() | st.integers(0, 12),
)
def test_a_prompt_is_cut_where_rendering_it_whole_for_each_cut_finds_that_it_fits(
    prompt: str, facts: Facts, limit: int, rounds_listed: int | None
) -> None:
    assert build_messages(prompt, facts, limit, rounds_listed) == first_messages(prompt, facts, limit, rounds_listed)


@pytest.mark.parametrize("rounds_listed", [ROUNDS_LISTED, None])
def test_every_limit_cuts_a_long_visit_at_the_same_round(rounds_listed: int | None) -> None:
    rounds = [
        {
            "title": f"Title {n}",
            "distance": 0.7,
            "reward": 3.25 + n % 2,
            "genres": ["Drama", "War", "Film-Noir"][n % 3 :],
        }
        for n in range(90)
    ]
    facts: Facts = {"role": "reflector", "rounds": rounds, "outcome": {"rounds": 90}}
    for limit in range(0, 2_300, 11):
        told = build_messages("Reflect.", facts, limit, rounds_listed)
        assert told == first_messages("Reflect.", facts, limit, rounds_listed)


@pytest.mark.parametrize("rounds_listed", [ROUNDS_LISTED, None])
@pytest.mark.parametrize("limit", [1_500, 100_000])
def test_each_listed_round_is_written_once_and_no_other_is(
    rounds_listed: int | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are counted, because times on a busy machine say little; ten times the rounds take no more rows."""

    class Round(dict[str, Any]):
        """Round that notes when its title is read."""

        def __getitem__(self, column: str) -> Any:
            if column == "title":
                written.append(super().__getitem__(column))
            return super().__getitem__(column)

    written: list[str] = []
    summed: list[int] = []
    rounds = [Round(title=f"Title {n}", reward=3.5, genres=["Drama"]) for n in range(10_000)]

    def summary(rounds: list[Facts]) -> Facts:
        summed.append(len(rounds))
        return summarize_rounds(rounds)

    monkeypatch.setattr(prompting, "summarize_rounds", summary)
    told = read_facts(build_messages("Reflect.", {"rounds": rounds}, limit, rounds_listed)[1].text)
    assert len(told["rounds"]) <= len(written) == len({*written}) <= len(told["rounds"]) + 20
    assert len(summed) <= 5


WISHES = st.lists(texts | st.just("絶対に" * 40) | st.just("slow films, no horror"), max_size=40)


@given(WISHES)
def test_a_persons_wishes_are_cut_where_counting_all_again_for_each_line_finds_that_they_fit(lines: list[str]) -> None:
    text = "\n".join(lines)
    first = [as_data(line) for line in text.splitlines() if line.strip()]
    while sum(map(count_tokens, first)) > WISHES_TOKENS:
        first = first[1:]
    assert wish_facts(Profile(text=text)) == ({"wishes": first} if first else {})
