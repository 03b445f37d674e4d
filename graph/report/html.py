"""HTML report of a study: one self-contained page, readable on a phone.

The sentences of the page are in its template; this module computes what they and the tables tell.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from graph.ablation import MEANING, part_worth, setting_of
from graph.report.columns import (
    PAGE_COLUMNS,
    PAGE_EFFORT_COLUMNS,
    Column,
    interval_note,
    shown_columns,
    signed_with_interval,
    with_interval,
)
from graph.report.lesson_effects import ENOUGH, LessonEffect, VisitGroup, most_telling, recalled_lessons
from graph.report.plots import (
    Picture,
    draw_cohorts,
    draw_curves,
    draw_ends,
    draw_reliability,
    draw_rewards,
    draw_values,
    draw_visit,
    draw_worth,
)
from graph.report.replies import warnings
from graph.report.schema import (
    RESULTS_SCHEMA,
    RULE_BASELINES,
    UPPER_MARK,
    JsonMapping,
    Row,
    ShownVisit,
    best_rule,
    shown_visits,
)
from graph.report.terminal import learning_notes, name_of, part_of, visit_numbers
from graph.report.verdict import verdict_sentences
from graph.variants import VARIANTS
from nodes.llm.endpoint.usage import Usage
from sim.metrics.calibration import quantile_groups
from sim.plain_text import without_controls

# Limits that keep a page small, however long the texts of a model are.
MOST_LESSONS = 12
MOST_ROUNDS = 100
LONGEST_SHOWN = 300
MOST_COHORTS = 50
# Sign of a negative number, but not the dashes of an option.
_NEGATIVE = re.compile(r"(?<!-)-(?=\d)")


class PageTable(NamedTuple):
    """Table whose first column names its rows."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: frozenset[int] = frozenset()
    """Columns of text, which wrap."""


class ShownWorth(NamedTuple):
    """Worth of each part of the agent."""

    meaning: str
    picture: Picture
    table: PageTable


class ShownLearning(NamedTuple):
    """Total reward by cohort, of a study that learns at test."""

    picture: Picture | None
    """None if the study has rules and the oracle alone."""
    every: int
    """One cohort in so many is shown."""
    notes: Sequence[str]
    ends: PageTable | None
    """The last visits against the first; None if all were of one cohort."""
    table: PageTable


class TypicalVisit(NamedTuple):
    """Visit that the page shows round by round."""

    visit: ShownVisit
    rounds: int
    """Number of rounds shown."""
    picture: Picture
    table: PageTable


class ShownLessons(NamedTuple):
    """Lessons of all variants, most recalled first."""

    total: int
    shown: int
    most: LessonEffect | None
    enough: int
    """Number of users that both sides of `most` have at least."""
    table: PageTable


class ShownCritic(NamedTuple):
    """Predictions of the Critic and of the outlook; None for what no variant has."""

    values: Picture | None
    reliability: Picture | None
    table: PageTable | None


class ShownCosts(NamedTuple):
    """Calls of models and what they cost."""

    calls: int
    priced: bool
    table: PageTable | None


def report_page(results: Mapping[str, Any], lines: Iterable[JsonMapping]) -> str:
    """Return the report of a study.

    Args:
        results: Content of results.json.
        lines: Visits as in visits.jsonl.

    Returns:
        A page of HTML; the same results and visits give the same page.
    """
    study = RESULTS_SCHEMA.validate_python(results)
    agents = frozenset(name_of(row) for row in study["rows"] if row["variant"] in VARIANTS)
    # The memory control is part of a row's name, to separate the rows of one variant.
    rows: list[Row] = [{**row, "variant": name_of(row)} for row in study["rows"]]
    # Agents without a part have tables and a section of their own: a plot with so many lines is unreadable.
    whole = [row for row in rows if row["without"] is None]
    first = rows[0]
    visits = [
        {**line, "variant": name_of(line)} for line in lines if line["split"] == first["split"] and not line["without"]
    ]
    columns, effort = (shown_columns(names, rows) for names in (PAGE_COLUMNS, PAGE_EFFORT_COLUMNS))
    curves = {row["variant"]: row["curve"] for row in whole if row.get("curve")}
    ends = {row["variant"]: row["leave_reasons"] for row in whole}
    return _TEMPLATES.get_template("report.html.jinja").render(
        study=study,
        first=first,
        verdict=[_NEGATIVE.sub("−", sentence) for sentence in verdict_sentences(study)],
        columns=[*columns, *effort],
        warnings=study.get("warnings", []) + warnings([(row["variant"], row["replies"]) for row in rows]),
        interval_note=interval_note(study["settings"]["seeds"], study["rows"]),
        results=_column_table("Results of each variant", columns, rows),
        effort=_column_table("What each variant took", effort, rows),
        worth=_worth(rows),
        curves=draw_curves(curves) if curves else None,
        learning=_learning(rows, whole),
        returning=_returning(rows),
        rewards=_rewards(whole, visits, agents),
        ends=draw_ends(ends),
        typical=_typical(whole, visits),
        lessons=_lessons(visits),
        critic=_critic(rows, whole, visits),
        costs=_costs(rows),
    )


def _column_table(name: str, columns: Sequence[Column], rows: Sequence[Row]) -> PageTable:
    return PageTable(
        name,
        ["variant", *(column.heading for column in columns)],
        [[row["variant"], *(column.cell(row) for column in columns)] for row in rows],
    )


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def _cut(text: str) -> str:
    """Return a text on one line, of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"


def _worth(rows: Sequence[Row]) -> ShownWorth | None:
    measured = [
        (
            part_of(row["without"], row["memory"]),
            row["without"],
            row,
            *part_worth(row["minus_full"]),
        )
        for row in rows
        if row["without"] is not None and row["minus_full"] is not None
    ]
    if not measured:
        return None
    return ShownWorth(
        MEANING,
        draw_worth({name: (value, interval) for name, _, _, value, interval in measured}),
        PageTable(
            "What each part is worth",
            ["part", "worth\n(95% interval)", "total reward without it\n(95% interval)", "switched off by"],
            [
                [
                    name,
                    signed_with_interval(value, interval).replace("-", "−"),
                    with_interval(row["total_reward"], row["total_reward_ci"]),
                    setting_of(part),
                ]
                for name, part, row, value, interval in measured
            ],
        ),
    )


def _learning(rows: Sequence[Row], pictured: Sequence[Row]) -> ShownLearning | None:
    """Return the total reward by cohort; rules and the oracle, which do not learn, are level lines of the picture."""
    cohorts = {row["variant"]: row["by_cohort"] for row in rows if row.get("by_cohort")}
    if not cohorts:
        return None
    most = max(map(len, cohorts.values()))
    every = -(-most // MOST_COHORTS)
    shown = {variant: points[::every] for variant, points in cohorts.items()}
    levels = (*RULE_BASELINES, UPPER_MARK)
    lines = {row["variant"]: shown[row["variant"]] for row in pictured if row["variant"] not in levels}
    marks = {row["variant"]: row["total_reward"] for row in rows if row["variant"] in (best_rule(rows), UPPER_MARK)}
    joined = [row for row in rows if row.get("first_and_last")]
    table = PageTable(
        "Total reward by cohort",
        ["variant", "visits", "users", "total reward\n(95% interval)"],
        [
            [variant, visit_numbers(one), str(one["users"]), with_interval(one["total_reward"], one["total_reward_ci"])]
            for variant, points in shown.items()
            for one in points
        ],
    )
    return ShownLearning(
        draw_cohorts(lines, marks) if lines else None,
        every,
        learning_notes(joined) if joined else [],
        _first_and_last(joined) if joined else None,
        table,
    )


def _first_and_last(rows: Sequence[Row]) -> PageTable:
    numbers = [visit_numbers(rows[0]["first_and_last"][end]) for end in ("first", "last")]
    found = []
    for row in rows:
        ends = row["first_and_last"]
        found.append(
            [
                row["variant"],
                *(with_interval(one["total_reward"], one["total_reward_ci"]) for one in (ends["first"], ends["last"])),
                signed_with_interval(ends["difference"], ends["ci"]).replace("-", "−"),
                "" if ends["gap_closed"] is None else f"{ends['gap_closed']:.0%}".replace("-", "−"),
            ]
        )
    headings = [f"visits {of}\n(95% interval)" for of in numbers]
    return PageTable(
        "Last visits against first",
        ["variant", *headings, "last minus first\n(95% interval)", "gap closed\nby the last"],
        found,
    )


def _returning(rows: Sequence[Row]) -> PageTable | None:
    found = [
        [row["variant"], one["recall"], str(one["visit"]), with_interval(one["total_reward"], one["total_reward_ci"])]
        for row in rows
        for one in row.get("returning", [])
    ]
    headings = ["variant", "recalled", "visit", "total reward\n(95% interval)"]
    return PageTable("Users who come back", headings, found) if found else None


def _rewards(rows: Sequence[Row], visits: Sequence[JsonMapping], agents: frozenset[str]) -> Picture:
    totals = {
        row["variant"]: [float(visit["total_reward"]) for visit in visits if visit["variant"] == row["variant"]]
        for row in rows
    }
    return draw_rewards(totals, agents)


def _typical(rows: Sequence[Row], visits: Sequence[JsonMapping]) -> TypicalVisit:
    """Return the visit of median total reward of the agent with the highest total reward."""
    agents = [row for row in rows if row["variant"] in VARIANTS] or rows
    best = max(agents, key=lambda row: row["total_reward"])["variant"]
    own = sorted((one for one in visits if one["variant"] == best), key=lambda one: float(one["total_reward"]))
    visit = next(shown_visits(own[(len(own) - 1) // 2 :]))
    steps = visit["steps"][:MOST_ROUNDS]
    rounds = [
        [
            str(number),
            _cut(step["title"]),
            _cut(", ".join(step["genres"])),
            _number(step["reward"], 2),
            _number(step["distance"], 2),
            _cut(step["plan"]),
        ]
        for number, step in enumerate(steps, 1)
    ]
    headings = ["round", "item", "genres", "reward", "distance", "plan"]
    table = PageTable("Rounds of the visit", headings, rounds, wide=frozenset({1, 2, 5}))
    return TypicalVisit(visit, len(steps), draw_visit(steps), table)


def _lessons(visits: Sequence[JsonMapping]) -> ShownLessons | None:
    lessons = recalled_lessons(shown_visits(visits))
    if not lessons:
        return None
    headings = ["variant", "lesson", "recalled by", "not by", "total reward", "difference", "distance", "new genres"]
    rows = [_lesson_row(one) for one in lessons[:MOST_LESSONS]]
    table = PageTable("Lessons", headings, rows, wide=frozenset({1}))
    return ShownLessons(len(lessons), len(rows), most_telling(lessons), ENOUGH, table)


def _lesson_row(lesson: LessonEffect) -> list[str]:
    def both(what: Callable[[VisitGroup], float | None], digits: int) -> str:
        return f"{_number(what(lesson.by), digits) or '–'} / {_number(what(lesson.others), digits) or '–'}"

    return [
        lesson.variant,
        _cut(lesson.text),
        str(lesson.by.visits),
        str(lesson.others.visits),
        both(lambda kind: kind.total_reward, 1),
        _signed(lesson.difference) or "–",
        both(lambda kind: kind.distance, 2),
        both(lambda kind: kind.new_genres, 2),
    ]


def _critic(rows: Sequence[Row], pictured: Sequence[Row], visits: Sequence[JsonMapping]) -> ShownCritic:
    judged = [
        [
            row["variant"],
            f"{critic['steps']:,}",
            with_interval(critic["auc"], critic["auc_ci"], 3, 3) or "–",
            with_interval(critic["rank_correlation"], critic["rank_correlation_ci"], 3, 3) or "–",
        ]
        for row in rows
        if (critic := row["critic"]) is not None
    ]
    groups = {row["variant"]: found for row in pictured if (found := _groups(row["variant"], visits))}
    outlooks = {
        name: points
        for row in pictured
        for name, points in (
            (row["variant"], row["reliability"]),
            (f"{row['variant']}, without pairs", row["reliability_without_pairs"]),
        )
        if points
    }
    headings = ["variant", "rounds", "AUC\n(95% interval)", "rank correlation\n(95% interval)"]
    return ShownCritic(
        draw_values(groups) if groups else None,
        draw_reliability(outlooks) if outlooks else None,
        PageTable("The Critic's predictions", headings, judged) if judged else None,
    )


def _groups(variant: str, visits: Sequence[JsonMapping]) -> list[tuple[float, float, int]]:
    """Return rounds grouped by the Critic's value: mean value, share of users who left, and number of rounds."""
    judged = [
        (step["next_value"], step["left"])
        for visit in shown_visits(one for one in visits if one["variant"] == variant)
        for step in visit["steps"]
        if step["next_value"] is not None
    ]
    if not judged:
        return []
    values, left = (np.array(column, dtype=np.float64) for column in zip(*judged, strict=True))
    group = quantile_groups(values)
    return [
        (float(values[group == one].mean()), float(left[group == one].mean()), int((group == one).sum()))
        for one in np.unique(group)
    ]


def _costs(rows: Sequence[Row]) -> ShownCosts:
    total = sum((row["usage"] for row in rows), Usage())
    known = [row["cost"] for row in rows if row["cost"] is not None]
    priced = len(known) == len(rows)
    headings = ["variant", "calls", "prompt tokens", "cached tokens", "reply tokens", "retries", "dollars"]
    spent = [_cost_row(row["variant"], row["usage"], row["cost"]) for row in rows if row["usage"].calls]
    if len(spent) > 1:
        spent.append(_cost_row("together", total, sum(known) if priced else None))
    return ShownCosts(total.calls, priced, PageTable("Costs", headings, spent) if spent else None)


def _cost_row(name: str, usage: Usage, cost: float | None) -> list[str]:
    counts = (usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.retries)
    return [name, *(f"{count:,}" for count in counts), "–" if cost is None else f"{cost:.4f}"]


def _unbroken(text: str) -> str:
    """Return the text of a cell of numbers with spaces at which no line ends within an interval or a pair."""
    return re.sub(r"\([^()]*\)|\S+ / \S+", lambda found: found[0].replace(" ", "\u00a0"), text)


def _plain(value: Any) -> Any:
    """Return a value for the page, text without control characters."""
    return without_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("graph.report", "."),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cut=_cut, number=_number, signed=_signed, unbroken=_unbroken)
    return environment


_TEMPLATES = _environment()
