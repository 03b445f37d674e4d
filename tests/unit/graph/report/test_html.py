"""HTML report of a study: its content, and its notes on missing data."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from graph.report.html import report_page
from graph.report.plots import draw_visit
from graph.report.schema import ShownStep
from nodes.context import Context

ENDS = {"repeat": 0, "similar": 1, "disliked": 0, "chose": 0, "stayed": 1}


def row(variant: str, **more: Any) -> dict[str, Any]:
    usage = {"calls": 4, "prompt_tokens": 1234, "cached_tokens": 77, "completion_tokens": 8, "retries": 1}
    return {
        "variant": variant,
        "without": None,
        "memory": "full",
        "split": "dev",
        "failed": 0,
        "usage": usage,
        "cost": 0.25,
        "visits": 2,
        "length": 2.0,
        "length_with_exit": 2.5,
        "mean_reward": 3.5,
        "total_reward": 7.0,
        "total_reward_ci": [6.0, 8.0],
        "prompt_tokens_per_step": 100.0,
        "cached_tokens_per_step": 0.0,
        "completion_tokens_per_step": 4.0,
        "calls_per_step": 2.0,
        "leave_reasons": ENDS,
        "distinct_items": 4,
        "tail_share": 0.5,
        "repeats": 0.0,
        "minus_billp": None,
        "learned": None,
        "minus_full": None,
        "gap_closed": None,
        "tuning_visits": 0,
        "training_steps": 0,
        "training_visits": 0,
        "critic": None,
        "reliability": None,
        "reliability_without_pairs": None,
        "replies": {},
    } | more


def line(variant: str, total: float, **more: Any) -> dict[str, Any]:
    step = {"plan": "Go far", "title": "Heat", "genres": ["Crime"], "distance": 0.5, "reward": 3.5, "next_value": None}
    return {
        "variant": variant,
        "without": None,
        "memory": "full",
        "split": "dev",
        "seed": 0,
        "user_id": f"user of {total}",
        "length": 2,
        "total_reward": total,
        "leave_reason": "similar",
        "lessons": [],
        "steps": [step | {"left": False}, step | {"left": True}],
    } | more


def cohort(first: int, last: int, total: float, ci: list[float] | None = None) -> dict[str, Any]:
    users = last - first + 1
    return {
        "first_visit": first,
        "last_visit": last,
        "users": users,
        "total_reward": total,
        "total_reward_ci": ci,
    }


def learned(first: float, last: float, **ends: Any) -> dict[str, Any]:
    """Return the fields of a row with ten cohorts of ten visits, whose total reward rises from `first` to `last`."""
    totals = [first + (last - first) * number / 9 for number in range(10)]
    cohorts = [cohort(10 * n + 1, 10 * n + 10, total, [total - 1, total + 1]) for n, total in enumerate(totals)]
    both = {"first": cohort(1, 20, first, [first - 5, first + 5]), "last": cohort(81, 100, last, [last - 5, last + 5])}
    return {"by_cohort": cohorts, "first_and_last": both | ends}


def study(*rows: dict[str, Any], **context: Any) -> dict[str, Any]:
    settings = {"train": 4, "seeds": 1, "cohort": 2, "max_steps": 9, "visits_per_user": 1, "recall": ["own"]}
    settings |= {"learn_at_test": False, "context": Context(**context).model_dump()}
    return {"world": "tiny", "model": "rules", "note": "No LLM.", "settings": settings, "rows": list(rows)}


def words(page: str) -> str:
    """Return the text of a page, including its pictures, on one line."""
    reader = _Reader()
    reader.feed(page)
    return " ".join(" ".join(reader.found).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "style"):
                self.addresses.append(value or "")


VISITS = [line(variant, total) for variant in ("billp", "random") for total in (9.0, 5.0, 7.0, 8.0)]
MEASURED: dict[str, Any] = {
    "minus_billp": {"difference": -3.25, "ci": [-5.0, 1.5], "users": 2},
    "learned": {"difference": 12.75, "ci": [-2.0, 27.5], "users": 2},
    "gap_closed": 0.314,
    "distinct_items": 1_221,
    "tail_share": 0.27,
    "repeats": 0.35,
    "tuning_visits": 3_200,
    "training_steps": 51_000,
    "critic": {
        "steps": 41,
        "auc": 0.6789,
        "auc_ci": [0.6, 0.75],
        "rank_correlation": 0.123,
        "rank_correlation_ci": [0.0, 0.2],
    },
    "reliability": [
        {"risk": 0.1, "left": 0.2, "left_ci": [0.036, 0.624], "rounds": 5},
        {"risk": 0.4, "left": 1.0, "left_ci": [0.342, 1.0], "rounds": 2},
    ],
    "returning": [{"recall": "own", "visit": 2, "total_reward": 48.1, "total_reward_ci": [31.5, 66.0]}],
    "curve": [
        {"cohorts": n, "train_visits": 2 * n, "total_reward": 11.5 + n, "total_reward_ci": [1, 30]} for n in range(3)
    ],
}


def test_what_a_study_has_measured_is_shown() -> None:
    page = report_page(study(row("billp"), row("random", **MEASURED)), VISITS)
    text = words(page)
    for shown in (
        "7.0 (6.0 to 8.0)",
        "−3.2 (−5.0 to +1.5)",
        "+12.8 (−2.0 to +27.5)",
        "31%",
        "1,221",
        "27%",
        "3,200",
        "51,000",
        "0.679 (0.600 to 0.750)",
        "0.123 (0.000 to 0.200)",
        "random own 2 48.1 (31.5 to 66.0)",
        "together 8 2,468 154 16 2 0.5000",
    ):
        assert shown in text, shown
    assert "random from 11.5 after 0 train visits to 13.5 after 4" in page
    reliable = "random: 20.0% (3.6% to 62.4%) left at 10.0%, 100.0% (34.2% to 100.0%) left at 40.0%"
    assert f"Reliability of the outlook, with 95% intervals. {reliable}." in page
    assert page.count("<svg") == 5


SERVED: dict[str, Any] = {"difference": 70.0, "ci": [50.0, 90.0], "gap_closed": 0.4}


def test_learning_while_serving_is_pictured_and_told() -> None:
    rows = [
        row("billp", **learned(20.0, 90.0, **SERVED)),
        row("billp", memory="prior", **learned(21.0, 19.0, difference=-2.0, ci=[-9.0, 5.0], gap_closed=-0.1)),
        row("outlook_only", **learned(30.0, 80.0, **SERVED)),
        row("random", total_reward=4.0, **learned(3.0, 5.0, **SERVED)),
        row("genre_greedy", total_reward=50.0, **learned(40.0, 60.0, **SERVED)),
        row("oracle", total_reward=300.0, **learned(290.0, 310.0, **SERVED)),
    ]
    visits = [line("billp", 9.0), line("billp", 9.0, memory="prior")]
    visits += [line(one["variant"], 5.0) for one in rows[2:]]
    page = report_page(study(*rows), visits)
    # Learners are lines; the best rule and the oracle are level.
    assert (
        "Total reward of each cohort of test visits. billp from 20.0 (to visit 10) to 90.0 (to visit 100); "
        "billp (prior) from 21.0 (to visit 10) to 19.0 (to visit 100); "
        "outlook_only from 30.0 (to visit 10) to 80.0 (to visit 100); genre_greedy 50.0; oracle 300.0."
    ) in page
    text = words(page)
    assert "visits 1 to 20 (95% interval) visits 81 to 100 (95% interval)" in text
    assert "billp 20.0 (15.0 to 25.0) 90.0 (85.0 to 95.0) +70.0 (+50.0 to +90.0) 40%" in text
    assert "billp (prior) 21.0 (16.0 to 26.0) 19.0 (14.0 to 24.0) −2.0 (−9.0 to +5.0) −10%" in text
    assert "billp 11 to 20 10 27.8 (26.8 to 28.8)" in text and "random 91 to 100 10 5.0 (4.0 to 6.0)" in text
    assert "which do not learn" in text and "Shown is one" not in text


def test_a_cohort_of_few_users_and_a_single_cohort_are_shown_without_interval() -> None:
    last = cohort(11, 13, 18.0)
    page = report_page(study(row("billp", by_cohort=[cohort(1, 10, 9.0, [8.0, 10.0]), last])), [line("billp", 9.0)])
    text = words(page)
    assert "billp 1 to 10 10 9.0 (8.0 to 10.0) billp 11 to 13 3 18.0" in text and "last minus first" not in text
    rules = report_page(study(row("random", by_cohort=[last])), [line("random", 9.0)])
    assert "random 11 to 13 3 18.0" in words(rules) and "Total reward of each cohort of test visits. " not in rules


def test_of_many_cohorts_some_are_shown() -> None:
    cohorts = [cohort(number, number, float(number)) for number in range(1, 141)]
    text = words(report_page(study(row("billp", by_cohort=cohorts)), [line("billp", 9.0)]))
    assert "Shown is one cohort in 3." in text
    assert "billp 4 to 4 1 4.0 billp 7 to 7 1 7.0" in text


def test_no_line_of_a_cell_ends_within_an_interval_or_a_pair() -> None:
    lesson = {"text": "far (and new) / or not"}
    visits = [line("billp", 9.0, lessons=[lesson]), line("billp", 5.0), line("random", 5.0)]
    page = report_page(study(row("billp"), row("random", **MEASURED)), visits)
    for shown in ("7.0 (6.0\u00a0to\u00a08.0)", "−3.2 (−5.0\u00a0to\u00a0+1.5)", "9.0\u00a0/\u00a05.0"):
        assert f"<td>{shown}</td>" in page, shown
    # A text wraps anywhere.
    assert lesson["text"] in page


def test_what_a_variant_took_has_a_table_of_its_own() -> None:
    page = report_page(study(row("billp"), row("random", **MEASURED)), VISITS)
    first, second = re.findall(r'aria-label="(?:Results of|What) each variant(?: took)?".*?</thead>', page, re.DOTALL)
    assert "gap closed" in first and "tuning visits" not in first
    for heading in ("visits", "tuning visits", "training steps", "tokens a round", "calls a round"):
        assert f'<th scope="col">{heading}</th>' in second, heading
    assert "<strong>tuning visits</strong>: train visits by which a rule was tuned." in page


def test_sections_without_content_are_named_last_in_one_line() -> None:
    text = words(report_page(study(row("billp", cost=None), row("random", usage={"calls": 0})), VISITS))
    assert text.endswith(
        "No dollars: the price of a model is not known. variant calls prompt tokens cached tokens reply tokens retries "
        "dollars billp 4 1,234 77 8 1 – Not in this study: What each part is worth (run with --ablate); "
        "Learning curves (run with --curve N); Learning while serving (run with --learn-at-test); "
        "Users who come back (run with --visits-per-user V); Lessons, and what they changed (no lesson was recalled); "
        "Predictions of the Critic (no variant has a Critic); Reliability of the outlook (no variant has an outlook)."
    )
    # Neither a heading nor a link leads to them.
    assert text.count("Learning curves") == text.count("Users who come back") == 1
    for absent in ("gap closed", "learned", "minus billp", "AUC", "tuning visits"):
        assert absent not in text, absent


def test_what_intervals_are_over_is_said_and_a_study_of_few_users_has_none() -> None:
    one = study(row("billp"), row("random"))
    assert "Intervals are over users; they say nothing about another training run" in words(report_page(one, VISITS))
    one["settings"]["seeds"] = 3
    assert "Intervals are over users and 3 training runs." in words(report_page(one, VISITS))
    none: dict[str, Any] = {
        "total_reward_ci": None,
        "minus_billp": MEASURED["minus_billp"] | {"ci": None},
        "curve": [{"cohorts": 0, "train_visits": 0, "total_reward": 11.5, "total_reward_ci": None}],
        "critic": MEASURED["critic"] | {"auc_ci": None, "rank_correlation_ci": None},
        "returning": [{"recall": "own", "visit": 2, "total_reward": 48.1, "total_reward_ci": None}],
    }
    part = row("billp_outlook", without="lessons", minus_full={"difference": 1.25, "ci": None, "users": 2}, **none)
    page = report_page(study(row("billp_outlook", **none), part), [line("billp_outlook", 9.0)])
    text = words(page)
    assert "No intervals: they need 10 users." in text
    assert "billp_outlook 7.0 −3.2 3.50" in text and "lessons −1.2 7.0 lessons_k=0" in text
    assert "What each part of the agent is worth. lessons -1.2." in page


def test_a_memory_that_was_changed_has_a_row_and_visits_of_its_own() -> None:
    changed = {"memory": "shuffled"}
    rows = [row("billp"), row("billp", total_reward=3.0, **changed), row("random")]
    lines = [line("billp", 9.0), line("billp", 1.0, **changed), line("random", 5.0)]
    page = report_page(study(*rows), lines)
    assert "billp (shuffled) 3.0 (6.0 to 8.0)" in words(page)
    assert "User user of 9.0 with billp, seed 0" in words(page)


def test_the_agent_without_a_part_is_told_by_what_the_part_is_worth_and_in_no_other_picture() -> None:
    without = {"without": "lessons", "total_reward": 99.0}
    less = {"minus_full": {"difference": 1.25, "ci": [-0.5, 3.0], "users": 2}, "cost": 0.5}
    rows = [row("billp_outlook"), row("billp_outlook", **without, **less), row("random", **MEASURED)]
    rows.append(row("billp_outlook", **without, **MEASURED, memory="shuffled"))
    visits = [line("billp_outlook", 9.0), line("billp_outlook", 99.0, **without | {"total_reward": 99.0})]
    page = report_page(study(*rows), [*visits, line("random", 5.0)])
    text = words(page)
    assert "billp_outlook without lessons 99.0 (6.0 to 8.0)" in text
    assert "lessons −1.2 (−3.0 to +0.5) 99.0 (6.0 to 8.0) lessons_k=0" in text
    assert "What each part of the agent is worth. lessons -1.2 (-3.0 to +0.5)." in page
    assert "User user of 9.0 with billp_outlook, seed 0" in text
    assert "billp_outlook without lessons (shuffled) own 2 48.1 (31.5 to 66.0)" in text
    pictures = re.findall(r'role="img" aria-label="([^"]*)"', page)
    assert len(pictures) == 6 and not any("without lessons" in picture for picture in pictures)


@pytest.mark.parametrize(
    ("variants", "typical"), [(["act_only", "billp", "oracle"], "billp"), (["random", "oracle"], "oracle")]
)
def test_the_visit_shown_is_the_median_one_of_the_best_agent(variants: list[str], typical: str) -> None:
    rows = [row(variant, total_reward=10.0 * number) for number, variant in enumerate(variants)]
    visits = [line(variant, total) for variant in variants for total in (9.0, 5.0, 7.0, 8.0)]
    train = [line(typical, 100.0, split="train") for _ in range(9)]
    assert f"User user of 7.0 with {typical}, seed 0" in words(report_page(study(*rows), [*train, *visits]))


def test_the_model_that_made_it_stands_above_all_else() -> None:
    text = words(report_page(study(row("billp"), model="rules", critic_model="openai:gpt-x"), VISITS))
    assert text.index("Model: openai:gpt-x, rules. No LLM.") < text.index("Results")


def test_points_of_the_critic_hold_all_rounds_with_about_the_same_value() -> None:
    def judged(value: float, left: bool) -> dict[str, Any]:
        step = line("billp", 1.0)["steps"][0] | {"next_value": value, "left": left}
        return line("billp", 1.0, steps=[step])

    visits = [judged(-2.0, True), judged(-2.0, True), judged(-2.0, False), judged(-2.0, True)]
    visits += [judged(1.0, False) for _ in range(4)]
    page = report_page(study(row("billp")), visits)
    assert "billp: 75% at values around -2.00, 0% at 1.00" in page


def test_a_page_asks_for_nothing_and_names_no_element_twice() -> None:
    page = report_page(study(row("billp"), row("random", **MEASURED)), VISITS)
    reader = _Reader()
    reader.feed(page)
    assert len(set(reader.ids)) == len(reader.ids) > 100
    outside = [one for one in reader.addresses if not one.startswith("#") and ("url(" in one or ":/" in one)]
    assert outside == []
    assert "default-src 'none'" in page and "<script" not in page and "@import" not in page


def test_pages_are_the_same_bytes_whatever_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    results = study(row("billp"), row("random", **MEASURED))
    page = report_page(results, VISITS)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert report_page(results, VISITS) == page
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert report_page(results, VISITS) == page
    assert re.search(r"20\d\d-\d\d-\d\d", page) is None


def test_the_page_of_a_large_study_stays_small() -> None:
    variants = [f"variant_{number}" for number in range(30)]
    step = line("", 1.0)["steps"][0] | {
        "plan": "plan " * 400,
        "title": "title " * 90,
        "genres": [f"genre {number}" for number in range(40)],
        "next_value": 0.5,
    }
    lessons = [{"text": f"lesson {number} " + "word " * 400} for number in range(50)]
    visits = [
        line(variant, float(total), steps=[step] * 300, lessons=lessons) for variant in variants for total in range(3)
    ]
    page = report_page(study(*(row(variant, **MEASURED) for variant in variants)), visits)
    assert len(page.encode()) < 2_000_000
    text = words(page)
    assert "Shown are the first 100 rounds." in text and "Shown are the 12 most recalled of 1500 lessons." in text


def test_a_visit_without_genres_is_drawn() -> None:
    step = ShownStep(plan="", title="A", genres=[], distance=None, reward=3, next_value=None, left=False)
    assert "<svg" in draw_visit([step]).svg


def test_the_page_template_is_part_of_the_package() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[4]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "report.html.jinja" in project["tool"]["setuptools"]["package-data"]["graph.report"]
