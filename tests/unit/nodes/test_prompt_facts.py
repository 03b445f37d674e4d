"""Facts for prompts: which fields a role is shown, how many, and how long."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from memory.records import Value
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
    evidence_facts,
    experience_facts,
    finished_round_facts,
    genre_facts,
    history_facts,
    history_facts_with_genres,
    item_facts,
    lesson_facts,
    plan_fact,
    round_facts,
    round_facts_with_genres,
    rounds_to_come,
    safe_distance_facts,
    shown,
    to_come_facts,
    value_facts,
    wish_facts,
)
from nodes.state import Candidate, ExperienceView, LessonView, Profile, Step, VisitState
from nodes.tools.evidence import NO_EVIDENCE, Band, Evidence
from nodes.user_view import Visitor
from sim.catalogue import Catalogue, Item
from sim.policies.pair_evidence import Rounds

ITEMS = [Item(str(n), f"Title {n}", ("Drama", f"Genre {n}")) for n in range(12)]
LONG = " ".join(f"word{n}" for n in range(500))


def who(history: list[Item], ratings: list[float | None], predicted: list[float] | None = None) -> Visitor:
    """Return a user in a world that has no more than a catalogue and its categories."""
    liked = np.zeros(len(ITEMS), np.float32) if predicted is None else np.array(predicted, np.float32)
    opened: Any = SimpleNamespace(world=SimpleNamespace(catalogue=Catalogue(ITEMS)), categories={"Drama": 9, "War": 3})
    return Visitor(opened, "u", tuple(history), tuple(ratings), liked)


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
    visitor = who([], [])
    assert catalogue_facts(visitor, Context()) == {"categories": ["Drama", "War"]}
    assert catalogue_facts(visitor, Context(category_tool=False)) == {}


def test_a_history_shows_its_last_three_titles_or_five_with_categories() -> None:
    visitor = who(ITEMS, [float(1 + n % 5) if n != 10 else None for n in range(12)])
    last = [{"title": f"Title {n}", "rating": None if n == 10 else float(1 + n % 5)} for n in range(12)]
    assert history_facts(visitor) == last[-3:]
    assert history_facts(visitor, 2) == last[-2:]
    assert history_facts_with_genres(visitor) == [last[n] | {"genres": ["Drama", f"Genre {n}"]} for n in range(7, 12)]
    assert history_facts_with_genres(who(ITEMS[:1], [4.5])) == [
        {"title": "Title 0", "rating": 4.5, "genres": ["Drama", "Genre 0"]}
    ]


def test_wishes_are_the_last_lines_that_fit() -> None:
    assert wish_facts(Profile()) == wish_facts(Profile(text="\n \n")) == {}
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
    step = Step(index=0, title="A", predicted=4.0, distance=0.5, reward=2.0, left=True, genres=["War"])
    assert item_facts(step) == {"title": "A", "predicted": 4.0, "distance": 0.5, "genres": ["War"]}
    assert item_facts(step.model_copy(update={"risk": 0.0})) == item_facts(step) | {"risk": 0.0}


def test_the_item_just_recommended_shows_what_is_known_of_its_pairs() -> None:
    step = Step(index=0, title="A", predicted=4.0, distance=0.5, known=2, to_unknown=0.75, ended=1)
    figures = {"known": 2, "to_unknown": 0.75, "ended": 1}
    assert item_facts(step) == {"title": "A", "predicted": 4.0, "distance": 0.5} | figures | {"genres": []}
    # Without a known pair, the distance to the others is the distance.
    assert item_facts(step.model_copy(update={"known": 0})).keys() == item_facts(step).keys() - {"to_unknown"}
    assert item_facts(step.model_copy(update={"known": 4, "to_unknown": None}))["known"] == 4


def test_values_show_their_item_as_the_one_just_recommended_and_risk_for_all_or_for_none() -> None:
    plain = [value(distance=0.5, genres=["War"], target=1.234), value(distance=None, target=-5.0)]
    first = {"distance": 0.5, "genres": ["War"], "target": 1.23}
    assert value_facts(plain) == [first, {"distance": None, "genres": [], "target": -5.0}]
    many = plain[0].model_copy(update={"genres": ["War", "Drama", "Crime"]})
    assert value_facts([many])[0]["genres"] == ["War", "Drama"]
    risky = [plain[0].model_copy(update={"risk": 0.0}), plain[1]]
    assert [one["risk"] for one in value_facts(risky)] == [0.0, None]


def value(**given: Any) -> Value:
    return Value(visit="v", user_id="u", situation="s", **given)


def test_the_rounds_of_a_finished_visit_show_which_one_ended_it() -> None:
    steps = [Step(index=0, title="A", risk=0.25), Step(index=1, title="B", left=True)]
    assert [(one["left"], one["risk"]) for one in finished_round_facts(steps)] == [(False, 0.25), (True, None)]
    assert "risk" not in finished_round_facts(steps[1:])[0] and finished_round_facts([]) == []


def test_lessons_and_experiences_show_what_they_teach() -> None:
    assert lesson_facts([LessonView(text="Mix.\n", support=3, length=7.5, keys=["k"])]) == [
        {"text": "Mix.", "support": 3, "length": 7.5}
    ]
    one = ExperienceView(item_id="1", title="A\n", genres=["War"], distance=0.5, advantage=1.239, similarity=0.9)
    assert experience_facts([one]) == [{"title": "A", "distance": 0.5, "advantage": 1.24, "genres": ["War"]}]
    many = one.model_copy(update={"genres": ["War", "Drama", "Crime"]})
    assert experience_facts([many])[0]["genres"] == ["War", "Drama"]


def test_a_safe_distance_is_told_only_where_evidence_has_one() -> None:
    far = Band(0.6, 0.8, pairs=60, left=0.5)
    nothing = Evidence(Rounds.of([]), None, (far._replace(left=3.0),))
    assert safe_distance_facts(NO_EVIDENCE) == safe_distance_facts(nothing) == {}
    assert safe_distance_facts(Evidence(Rounds.of([]), None, (far,))) == {"safe_distance": 0.6}


def test_evidence_shows_the_pairs_of_each_band_and_the_visits_that_they_ended() -> None:
    assert evidence_facts(()) == {}
    bands = [Band(0.0, 0.2, 4, 1.25), Band(0.4, 0.6, 70, 0.0)]
    rows = [{"from": 0.0, "pairs": 4, "ended": 1.2}, {"from": 0.4, "pairs": 70, "ended": 0.0}]
    assert evidence_facts(bands) == {"evidence": rows}


def test_the_rounds_to_come_are_priced_by_what_the_best_tenth_of_the_catalogue_brings() -> None:
    visitor = who([], [], [1.0] * 9 + [4.0] * 3)
    first, last = VisitState(max_steps=20), VisitState(max_steps=1)
    assert to_come_facts(first, visitor) == {"to_come": {"rounds": 19, "reward": 4.0}}
    # One item that is liked much more than the rest changes nothing.
    rare = who([], [], [1.0] * 11 + [5.0])
    assert to_come_facts(first, rare) == {"to_come": {"rounds": 19, "reward": 1.0}}
    assert to_come_facts(last, visitor)["to_come"]["rounds"] == rounds_to_come(last) == 0
    assert rounds_to_come(VisitState(max_steps=20, steps=[Step(index=n) for n in range(5)])) == 14


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


def test_candidates_show_what_is_known_of_their_pairs_only_where_something_is() -> None:
    strange = {"known": 0, "to_unknown": 0.5, "ended": 0}
    partly, wholly = strange | {"known": 2, "to_unknown": 0.7}, strange | {"known": 4, "to_unknown": None}
    shown_of = [candidate("A", **strange), candidate("B", **partly), candidate("C", **wholly)]
    columns = ["title", "predicted", "distance", "known", "to_unknown", "genres"]
    assert [list(one) for one in candidate_facts(shown_of)] == [columns] * 3
    # Without a known pair, the distance to the others is that to all.
    assert [one["to_unknown"] for one in candidate_facts(shown_of)] == [None, 0.7, None]
    assert "known" not in candidate_facts(shown_of[:1])[0] and "to_unknown" not in candidate_facts(shown_of[:1])[0]
    ended = [candidate("A", **strange), candidate("B", **strange | {"ended": 1})]
    assert [one["ended"] for one in candidate_facts(ended)] == [0, 1]
    assert "known" not in candidate_facts(ended)[0]
