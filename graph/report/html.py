"""HTML report of a study: one self-contained page, readable on a phone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from graph.ablation import MEANING, part_worth, setting_of
from graph.report.lesson_effects import ENOUGH, LessonEffect, VisitGroup, most_telling, recalled_lessons
from graph.report.plots import (
    Picture,
    draw_curves,
    draw_ends,
    draw_reliability,
    draw_rewards,
    draw_values,
    draw_visit,
    draw_worth,
)
from graph.report.schema import Interval, JsonMapping, Results, ShownRow, ShownVisit, shown_visits
from graph.report.terminal import name_of, part_of
from graph.variants import VARIANTS
from nodes.llm.endpoint.usage import Usage
from sim.metrics.calibration import quantile_groups

# Limits that keep a page small, however long the texts of a model are.
MOST_LESSONS = 12
MOST_ROUNDS = 100
LONGEST_SHOWN = 300

_TEMPLATES = Environment(
    loader=PackageLoader("graph.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Column(NamedTuple):
    """Column of the table of results; shown if any row has a value in it."""

    name: str
    show: Callable[[ShownRow], str]
    legend: str = ""
    """Explanation of the name, if needed."""
    unit: str = ""

    @property
    def heading(self) -> str:
        """Name above the unit."""
        return f"{self.name}\n{self.unit}" if self.unit else self.name


class PageTable(NamedTuple):
    """PageTable whose first column names its rows."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: frozenset[int] = frozenset()
    """Columns of text, which wrap."""
    folded: bool = False
    """Whether the table is collapsed until the reader opens it."""


class Section(NamedTuple):
    """Section of the page."""

    key: str
    heading: str
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[PageTable] = ()
    missing: Sequence[str] = ()
    """Reasons why something is not shown, one per line."""
    legend: Sequence[tuple[str, str]] = ()
    """Terms and their meanings, at the end of the section."""


def report_page(results: Mapping[str, Any], lines: Iterable[JsonMapping]) -> str:
    """Return the report of a study.

    Args:
        results: Content of results.json.
        lines: Visits as in visits.jsonl.

    Returns:
        A page of HTML; the same results and visits give the same page.
    """
    named = [row | {"variant": name_of(row), "agent": row["variant"] in VARIANTS} for row in results["rows"]]
    study = Results.model_validate({**results, "rows": named})
    split = study.rows[0].split
    # Agents without a part have tables and a section of their own: a plot with so many lines is unreadable.
    whole = study.model_copy(update={"rows": [row for row in study.rows if row.without is None]})
    # The memory control is part of a row's name, to separate the rows of one variant.
    visits = [{**line, "variant": name_of(line)} for line in lines if line["split"] == split and not line["without"]]
    sections = [
        _table_section(study),
        _worth_section(study),
        _curve_section(whole),
        _returning_section(study),
        _reward_section(whole, visits),
        _end_section(whole),
        _visit_section(whole, visits),
        _lesson_section(visits),
        _critic_section(study, whole, visits),
        _cost_section(study),
    ]
    return _TEMPLATES.get_template("report.html.jinja").render(study=study, first=study.rows[0], sections=sections)


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def _with_interval(value: float | None, interval: Interval | None, digits: int = 1) -> str:
    if value is None or interval is None:
        return _number(value, digits)
    low, high = (f"{bound:,.{digits}f}" for bound in interval)
    return f"{value:,.{digits}f} ({low} to {high})"


def _difference(row: ShownRow) -> str:
    if row.minus_billp is None:
        return ""
    low, high = (_signed(bound) for bound in row.minus_billp.ci)
    return f"{_signed(row.minus_billp.difference)} ({low} to {high})"


def _count(value: int | None) -> str:
    return f"{value:,}" if value else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}".replace("-", "−")


_COLUMNS = (
    Column(
        "total reward",
        lambda row: _with_interval(row.total_reward, row.total_reward_ci),
        "summed over a visit without the round after which the user left; intervals by bootstrap over users.",
        "(95% interval)",
    ),
    Column(
        "minus billp",
        _difference,
        "difference in total reward, paired by user; an interval that holds 0 decides nothing.",
        "(95% interval)",
    ),
    Column(
        "gap closed",
        lambda row: _share(row.gap_closed),
        "how far from the best rule of the table (0%) to the oracle (100%), which sees the true rewards.",
    ),
    Column("reward", lambda row: _number(row.mean_reward, 2), "mean over the rounds that count."),
    Column("length", lambda row: _number(row.length), "rounds without the one after which the user left."),
    Column("with exit", lambda row: _number(row.length_with_exit), "rounds with that one."),
    Column("items", lambda row: _count(row.distinct_items), "different ones recommended, in all visits together."),
    Column(
        "tail",
        lambda row: _share(row.tail_share),
        "share of recommendations from the less popular half of the catalogue.",
    ),
    Column("repeats", lambda row: _number(row.repeats), "rounds of a visit with an item that it had before."),
    Column("tuning visits", lambda row: _count(row.tuning_visits), "train visits by which a rule was tuned."),
    Column("training steps", lambda row: _count(row.training_steps), "rounds from which a policy was learned."),
    Column("tokens a round", lambda row: f"{row.prompt_tokens_per_step:,.0f}", "tokens of prompts."),
    Column("calls a round", lambda row: _number(row.calls_per_step)),
    Column("visits", lambda row: str(row.visits)),
    Column("failed", lambda row: _count(row.failed), "visits that are missing."),
)


def _table_section(study: Results) -> Section:
    columns = [column for column in _COLUMNS if any(column.show(row) for row in study.rows)]
    return Section(
        "results",
        "Results",
        legend=[(column.name, column.legend) for column in columns if column.legend],
        tables=[
            PageTable(
                "Results of each variant",
                ["variant", *(column.heading for column in columns)],
                [[row.variant, *(column.show(row) for column in columns)] for row in study.rows],
            )
        ],
    )


def _worth_section(study: Results) -> Section:
    heading = "What each part is worth"
    measured = [
        (part_of(row.without, row.memory), row.without, row, part_worth(row.minus_full.difference, row.minus_full.ci))
        for row in study.rows
        if row.without is not None and row.minus_full is not None
    ]
    if not measured:
        return Section("worth", heading, missing=["No part was measured: the study was run without --ablate."])
    return Section(
        "worth",
        heading,
        [MEANING],
        [draw_worth({name: (value, (low, high)) for name, _, _, (value, low, high) in measured})],
        [
            PageTable(
                "What each part is worth",
                ["part", "worth\n(95% interval)", "total reward without it\n(95% interval)", "switched off by"],
                [
                    [
                        name,
                        f"{_signed(value)} ({_signed(low)} to {_signed(high)})",
                        _with_interval(row.total_reward, row.total_reward_ci),
                        setting_of(part),
                    ]
                    for name, part, row, (value, low, high) in measured
                ],
            )
        ],
    )


def _curve_section(study: Results) -> Section:
    curves = {row.variant: row.curve for row in study.rows if row.curve}
    if not curves:
        return Section("curves", "Learning curves", missing=["No learning curve: the study was run without --curve N."])
    return Section(
        "curves",
        "Learning curves",
        ["Total reward of dev users after so many train visits; the band is the 95% interval."],
        [draw_curves(curves)],
    )


def _returning_section(study: Results) -> Section:
    heading = "Users who come back"
    returning = [(row.variant, one) for row in study.rows for one in row.returning]
    if not returning:
        return Section(
            "returning", heading, missing=["Nobody came back: the study was run without --visits-per-user V."]
        )
    return Section(
        "returning",
        heading,
        [
            "Total reward by number of the visit, and by whose records the user is served with: their own, those of "
            "all, or none. Memory learns between visits."
        ],
        tables=[
            PageTable(
                "Users who come back",
                ["variant", "recalled", "visit", "total reward\n(95% interval)"],
                [
                    [variant, one.recall, str(one.visit), _with_interval(one.total_reward, one.total_reward_ci)]
                    for variant, one in returning
                ],
            )
        ],
    )


def _reward_section(study: Results, visits: Sequence[JsonMapping]) -> Section:
    totals = {
        row.variant: [float(visit["total_reward"]) for visit in visits if visit["variant"] == row.variant]
        for row in study.rows
    }
    return Section(
        "rewards",
        "Return by variant",
        [
            "How total rewards are spread over visits: the box holds the middle half, its line is the median, the "
            "diamond the mean, and the whiskers reach from the 5th to the 95th percentile. Blue boxes are agents, "
            "orange ones baselines."
        ],
        [draw_rewards(totals, frozenset(row.variant for row in study.rows if row.agent))],
    )


def _end_section(study: Results) -> Section:
    return Section(
        "ends",
        "Reasons for leaving",
        [
            "repeat: one of the last four items came again. similar: too close to one of them. disliked: rated too "
            "low. chose: left by their own choice. stayed: still there at the limit of "
            f"{study.settings.max_steps} rounds."
        ],
        [draw_ends({row.variant: row.leave_reasons for row in study.rows})],
    )


def _visit_section(study: Results, visits: Sequence[JsonMapping]) -> Section:
    visit = _typical_visit(study, visits)
    steps = visit.steps[:MOST_ROUNDS]
    end = f"The user left: {visit.leave_reason}." if visit.leave_reason else "The user stayed to the limit."
    if visit.leave_reason and len(steps) == len(visit.steps):
        end += " The dotted line marks that round."
    lessons = [_cut(lesson.text) for lesson in visit.lessons]
    rounds = [
        [
            str(number),
            _cut(step.title),
            _cut(", ".join(step.genres)),
            _number(step.reward, 2),
            _number(step.distance, 2),
            _cut(step.plan),
        ]
        for number, step in enumerate(steps, 1)
    ]
    headings = ["round", "item", "genres", "reward", "distance", "plan"]
    return Section(
        "visit",
        "One visit, genre by genre",
        [
            f"User {_cut(visit.user_id)} with {visit.variant}, seed {visit.seed}: {visit.length} rounds, total reward "
            f"{visit.total_reward:.1f}. {end}",
            "Chosen by rule: the visit of median total reward (the lower of two), of the agent that collects most (of "
            "all variants where there is no agent); the first of equals.",
            *(["Lessons that it recalled: " + " / ".join(lessons)] if lessons else []),
            *([f"Shown are the first {MOST_ROUNDS} rounds."] if len(steps) < len(visit.steps) else []),
        ],
        [draw_visit(steps)],
        [PageTable("Rounds of the visit", headings, rounds, wide=frozenset({1, 2, 5}), folded=True)],
    )


def _typical_visit(study: Results, visits: Sequence[JsonMapping]) -> ShownVisit:
    """Return the visit of median total reward of the agent with the highest total reward."""
    rows = [row for row in study.rows if row.variant in VARIANTS] or study.rows
    best = max(rows, key=lambda row: row.total_reward).variant
    own = sorted((one for one in visits if one["variant"] == best), key=lambda one: float(one["total_reward"]))
    return next(shown_visits(own[(len(own) - 1) // 2 :]))


def _lesson_section(visits: Sequence[JsonMapping]) -> Section:
    lessons = recalled_lessons(shown_visits(visits))
    heading = "Lessons, and what they changed"
    if not lessons:
        return Section(
            "lessons",
            heading,
            missing=["No lesson was recalled: no variant of this study recalls any, or none exists."],
        )
    most = most_telling(lessons)
    notes = [
        "How visits that recalled a lesson differ from those of the same variant that did not: an association, not "
        "a cause, since a lesson is recalled where a user's situation resembles the one that taught it. Distance is "
        "that of a recommendation to the nearest of the four before it; new genres are those of a recommendation that "
        "none of the four before it has. Of two numbers the first is of the visits that recalled the lesson.",
    ]
    if most is not None:
        notes.append(
            f"Largest difference in total reward: {_signed(most.difference)} for “{_cut(most.text)}” "
            f"({most.variant}, recalled by {most.by.visits} visits, not by {most.others.visits}), of those with at "
            f"least {ENOUGH} visits on both sides. Among {len(lessons)} lessons one stands out by chance, too."
        )
    if len(lessons) > MOST_LESSONS:
        notes.append(f"Shown are the {MOST_LESSONS} most recalled of {len(lessons)} lessons.")
    headings = ["variant", "lesson", "recalled by", "not by", "total reward", "difference", "distance", "new genres"]
    rows = [_lesson_row(one) for one in lessons[:MOST_LESSONS]]
    return Section("lessons", heading, notes, tables=[PageTable("Lessons", headings, rows, wide=frozenset({1}))])


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


def _critic_section(study: Results, pictured: Results, visits: Sequence[JsonMapping]) -> Section:
    judged = [row for row in study.rows if row.critic is not None]
    groups = {row.variant: found for row in pictured.rows if (found := _groups(row.variant, visits))}
    outlooks = {row.variant: row.reliability for row in pictured.rows if row.reliability}
    notes, missing = [], []
    if groups:
        notes.append(
            "The Critic says how well things stand (−5 to 5) before it knows the round's reward or whether the user "
            "left. A good predictor falls from left to right: users leave after low values. Each point is about as "
            "many rounds as the others of its line."
        )
    else:
        missing.append("No prediction: no Critic takes part in any variant of this study.")
    if judged:
        notes.append(
            "AUC: how often a round after which the user left has the lower value of two (0.5 is chance). Rank "
            "correlation: of values with the return still to come."
        )
    if outlooks:
        notes.append(
            "The outlook is reliable where as many users left as it said: on the dashed line. Each point is about as "
            "many rounds as the others of its line, with Wilson's 95% interval."
        )
    else:
        missing.append("No reliability of the outlook: no variant of this study has one.")
    return Section(
        "critic",
        "The Critic as a predictor",
        notes,
        [*([draw_values(groups)] if groups else []), *([draw_reliability(outlooks)] if outlooks else [])],
        [_critic_table(judged)] if judged else [],
        missing,
    )


def _critic_table(rows: Sequence[ShownRow]) -> PageTable:
    judged = [(row.variant, row.critic) for row in rows if row.critic is not None]
    return PageTable(
        "The Critic's predictions",
        ["variant", "rounds", "AUC\n(95% interval)", "rank correlation\n(95% interval)"],
        [
            [
                variant,
                f"{critic.steps:,}",
                _with_interval(critic.auc, critic.auc_ci, 3) or "–",
                _with_interval(critic.rank_correlation, critic.rank_correlation_ci, 3) or "–",
            ]
            for variant, critic in judged
        ],
    )


def _groups(variant: str, visits: Sequence[JsonMapping]) -> list[tuple[float, float, int]]:
    """Return rounds grouped by the Critic's value: mean value, share of users who left, and number of rounds."""
    judged = [
        (step.next_value, step.left)
        for visit in shown_visits(one for one in visits if one["variant"] == variant)
        for step in visit.steps
        if step.next_value is not None
    ]
    if not judged:
        return []
    values, left = (np.array(column, dtype=np.float64) for column in zip(*judged, strict=True))
    group = quantile_groups(values)
    return [
        (float(values[group == one].mean()), float(left[group == one].mean()), int((group == one).sum()))
        for one in np.unique(group)
    ]


def _cost_section(study: Results) -> Section:
    total = sum((row.usage for row in study.rows), Usage())
    known = [row.cost for row in study.rows if row.cost is not None]
    notes = ["Calls of models, in train visits too. Cached tokens are among the prompt tokens."]
    missing = [] if len(known) == len(study.rows) else ["No dollars: the price of a model is not known."]
    if not total.calls:
        missing.append("No calls: no variant of this study asks a model.")
    headings = ["variant", "calls", "prompt tokens", "cached tokens", "reply tokens", "retries", "dollars"]
    spent = [(row.variant, row.usage, row.cost) for row in study.rows if row.usage.calls]
    rows = [_cost_row(*one) for one in spent]
    if len(spent) > 1:
        rows.append(_cost_row("together", total, sum(known) if len(known) == len(study.rows) else None))
    return Section(
        "costs", "Costs", notes, tables=[PageTable("Costs", headings, rows)] if rows else [], missing=missing
    )


def _cost_row(name: str, usage: Usage, cost: float | None) -> list[str]:
    counts = (usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.retries)
    return [name, *(f"{count:,}" for count in counts), "–" if cost is None else f"{cost:.4f}"]


def _cut(text: str) -> str:
    """Return a text on one line, of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"
