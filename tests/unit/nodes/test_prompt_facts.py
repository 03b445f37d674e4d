"""Facts for prompts: which fields a role is shown, how many, and how long."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from nodes.context import Context
from nodes.llm.text.tokens import count_tokens
from nodes.prompt_facts import (
    CATEGORIES,
    ITEM_CATEGORIES,
    TEXT_TOKENS,
    TITLE_TOKENS,
    candidate_facts,
    candidate_titles,
    catalogue_facts,
    category_facts,
    experience_facts,
    genre_facts,
    history_facts,
    history_facts_with_genres,
    item_facts,
    lesson_facts,
    plan_fact,
    recent_facts,
    round_facts,
    round_facts_with_genres,
    shown,
    wish_facts,
)
from nodes.state import Candidate, ExperienceView, LessonView, Profile, Step
from nodes.user_view import Visitor
from sim.catalogue import Catalogue, Item

ITEMS = [Item(str(n), f"Title {n}", ("Drama", f"Genre {n}")) for n in range(12)]
LONG = " ".join(f"word{n}" for n in range(500))


def who(history: list[Item], ratings: list[float | None]) -> Visitor:
    """Return a user in a world that has no more than a catalogue and its categories."""
    opened: Any = SimpleNamespace(world=SimpleNamespace(catalogue=Catalogue(ITEMS)), categories={"Drama": 9, "War": 3})
    return Visitor(opened, "u", tuple(history), tuple(ratings), np.zeros(len(ITEMS), np.float32))


def test_texts_are_plain_bounded_and_never_empty() -> None:
    assert (shown("a\nb`"), shown(" \u200b"), shown("")) == ("a b'", "untitled", "untitled")
    assert count_tokens(shown(LONG)) == TITLE_TOKENS == 32
    assert plan_fact("") == "" and plan_fact("Go on.\n") == "Go on."
    assert count_tokens(plan_fact(LONG)) == TEXT_TOKENS == 200
    assert count_tokens(lesson_facts([LessonView(text=LONG)])[0]["text"]) == 200


def test_an_item_shows_ten_categories_and_a_catalogue_forty() -> None:
    names = [f"c{n}" for n in range(60)]
    assert genre_facts(iter(names)) == names[:10] and ITEM_CATEGORIES == 10
    assert category_facts(dict.fromkeys(names)) == names[:40] and CATEGORIES == 40
    assert genre_facts(["a`b", ""]) == ["a'b", "untitled"]


def test_categories_are_shown_only_with_the_category_tool() -> None:
    visitor, steps = who([], []), [Step(index=n, item_id=str(n)) for n in range(6)]
    assert catalogue_facts(visitor, Context()) == {"categories": ["Drama", "War"]}
    # Those of the last four items.
    expected = ["Drama", "Genre 2", "Genre 3", "Genre 4", "Genre 5"]
    assert recent_facts(visitor, steps, Context()) == {"recent_categories": expected}
    without = Context(category_tool=False)
    assert catalogue_facts(visitor, without) == recent_facts(visitor, steps, without) == {}


def test_a_history_shows_its_last_five_titles_or_ten_with_categories() -> None:
    visitor = who(ITEMS, [float(1 + n % 5) if n != 10 else None for n in range(12)])
    last = [{"title": f"Title {n}", "rating": None if n == 10 else float(1 + n % 5)} for n in range(12)]
    assert history_facts(visitor) == last[-5:]
    assert history_facts(visitor, 2) == last[-2:]
    assert history_facts_with_genres(visitor) == [last[n] | {"genres": ["Drama", f"Genre {n}"]} for n in range(2, 12)]
    assert history_facts_with_genres(who(ITEMS[:1], [4.5])) == [
        {"title": "Title 0", "rating": 4.5, "genres": ["Drama", "Genre 0"]}
    ]


def test_wishes_are_the_last_lines_that_fit() -> None:
    assert wish_facts(None) == wish_facts(Profile()) == wish_facts(Profile(text="\n \n")) == {}
    assert wish_facts(Profile(text="slow films\n\nno `horror`")) == {"wishes": ["slow films", "no 'horror'"]}
    line = "a " * 99 + "b"
    assert count_tokens(line) == 100
    assert wish_facts(Profile(text="\n".join([f"first {line}", line, line, line]))) == {"wishes": [line] * 3}
    assert wish_facts(Profile(text=f"{line} {line} {line} {line}")) == {}


def test_rounds_show_the_reward_but_not_whether_the_user_left() -> None:
    step = Step(index=0, title="A\nB", distance=0.25, reward=3.456, genres=["War"], left=True, reason="similar")
    assert round_facts([step]) == [{"title": "A B", "distance": 0.25, "reward": 3.46}]
    assert round_facts_with_genres([step]) == [{"title": "A B", "distance": 0.25, "reward": 3.46, "genres": ["War"]}]


def test_the_item_just_recommended_shows_a_risk_only_if_there_is_one() -> None:
    step = Step(index=0, title="A", predicted=4.0, distance=0.5, reward=2.0, left=True)
    assert item_facts(step) == {"title": "A", "predicted": 4.0, "distance": 0.5}
    assert item_facts(step.model_copy(update={"risk": 0.0})) == item_facts(step) | {"risk": 0.0}


def test_lessons_and_experiences_show_what_they_teach() -> None:
    assert lesson_facts([LessonView(text="Mix.\n", support=3, length=7.5)]) == [
        {"text": "Mix.", "support": 3, "length": 7.5}
    ]
    one = ExperienceView(item_id="1", title="A", genres=["War"], distance=0.5, advantage=1.239, similarity=0.9)
    assert experience_facts([one]) == [{"distance": 0.5, "advantage": 1.24, "genres": ["War"]}]
    assert [*experience_facts([one], titles=True)[0].items()][0] == ("title", "A")


def candidate(title: str, **given: Any) -> Candidate:
    return Candidate(item_id=title, title=title, predicted=4.0, **given)


def test_candidates_of_one_title_are_numbered_from_two() -> None:
    titles = ["A", "A", "A (2)", "A", "B"]
    assert candidate_titles([candidate(title) for title in titles]) == ["A", "A (2)", "A (2) (2)", "A (3)", "B"]


def test_candidates_show_risk_and_reaction_for_all_or_for_none() -> None:
    plain = [candidate("A", distance=0.5, genres=["War"]), candidate("B")]
    first = {"title": "A", "predicted": 4.0, "distance": 0.5, "genres": ["War"]}
    assert candidate_facts(plain) == [first, {"title": "B", "predicted": 4.0, "distance": None, "genres": []}]
    risky = [plain[0].model_copy(update={"risk": 0.0}), plain[1]]
    assert [one["risk"] for one in candidate_facts(risky)] == [0.0, None]
    known = [plain[0], plain[1].model_copy(update={"before": "left"})]
    assert [one["before"] for one in candidate_facts(known)] == [None, "left"]
    assert not any("risk" in one for one in candidate_facts(known))
