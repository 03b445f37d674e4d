"""Columns of the tables of results, for the terminal and the page."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from graph.report.replies import useless
from graph.report.schema import Row, best_rule
from sim.metrics.bootstrap import FEWEST_USERS
from sim.metrics.summary import PairedDifference


class Column(NamedTuple):
    """Column of a table of results; left out if no row has a value in it."""

    name: str
    show: Callable[[Row, int], str]
    """Function that returns the text of a cell, given the number of decimals of an interval's bounds."""
    legend: str = ""
    """Explanation of the name, if needed; `BEST_RULE` stands for the best rule of the study."""
    unit: str = ""
    narrow: str = ""
    """Heading on a narrow screen, if not the name above the unit."""

    @property
    def heading(self) -> str:
        """Name above the unit."""
        return f"{self.name}\n{self.unit}" if self.unit else self.name

    def cell(self, row: Row) -> str:
        """Return the text of a cell of the page."""
        return self.show(row, 1).replace("-", "−")

    def narrow_cell(self, row: Row) -> str:
        """Return the text of a cell in the terminal: interval bounds without decimals, numbers without commas."""
        return self.show(row, 0).replace(",", "")


def with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 1, bounds: int = 1) -> str:
    """Return a value with its interval as text; empty if missing."""
    if value is None:
        return ""
    if interval is None:
        return f"{value:,.{digits}f}"
    low, high = interval
    return f"{value:,.{digits}f} ({low:,.{bounds}f} to {high:,.{bounds}f})"


def signed_with_interval(value: float, interval: Sequence[float] | None, bounds: int = 1) -> str:
    """Return a difference with its sign and its interval as text."""
    if interval is None:
        return f"{value:+,.1f}"
    low, high = interval
    return f"{value:+,.1f} ({low:+,.{bounds}f} to {high:+,.{bounds}f})"


def interval_note(seeds: int, rows: Sequence[Row]) -> str:
    """Return what the intervals of a study are over, or why it has none."""
    if any(row["total_reward_ci"] is None for row in rows):
        return f"No intervals: they need {FEWEST_USERS} users."
    if seeds == 1:
        return "Intervals are over users; they say nothing about another training run (--seeds)."
    return f"Intervals are over users and {seeds} training runs."


def _difference(against: PairedDifference | None, bounds: int) -> str:
    return "" if against is None else signed_with_interval(against["difference"], against["ci"], bounds)


def _critic(what: Literal["auc", "rank_correlation"]) -> Callable[[Row, int], str]:
    def show(row: Row, _: int) -> str:
        value = None if row["critic"] is None else row["critic"][what]
        return "" if value is None else f"{value:.2f}"

    return show


def _useless(row: Row) -> str:
    number, total = useless(row["replies"])
    return f"{number:,} ({number / total:.0%})" if number else ""


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


_COLUMNS = (
    Column(
        "total reward",
        lambda row, bounds: with_interval(row["total_reward"], row["total_reward_ci"], bounds=bounds),
        "summed over a visit without the round after which the user left.",
        "(95% interval)",
    ),
    Column(
        "minus billp",
        lambda row, bounds: _difference(row["minus_billp"], bounds),
        "difference in total reward, paired by user.",
        "(95% interval)",
    ),
    Column(
        "learned",
        lambda row, bounds: _difference(row["learned"], bounds),
        "difference in total reward from the same agent with an empty memory and its models at their prior.",
        "(95% interval)",
    ),
    Column(
        "gap closed",
        lambda row, _: "" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}",
        "how far from BEST_RULE, the best rule here, to the oracle (100%).",
        narrow="gap\nclosed",
    ),
    Column(
        "reward",
        lambda row, _: f"{row['mean_reward']:.2f}",
        "mean over the rounds that count.",
        narrow="reward\n(mean)",
    ),
    Column("length", lambda row, _: f"{row['length']:,.1f}", "rounds without the one after which the user left."),
    Column("with exit", lambda row, _: f"{row['length_with_exit']:,.1f}", "rounds with that one."),
    Column(
        "items",
        lambda row, _: f"{row['distinct_items']:,}",
        "different ones recommended, in all visits together.",
    ),
    Column(
        "tail",
        lambda row, _: f"{row['tail_share']:.0%}",
        "share of recommendations from the less popular half of the catalogue.",
    ),
    Column("repeats", lambda row, _: f"{row['repeats']:,.1f}", "rounds a visit with an item it had before."),
    Column(
        "tuning visits",
        lambda row, _: _count(row["tuning_visits"]),
        "train visits by which a rule was tuned.",
        narrow="tuning\nvisits",
    ),
    Column(
        "training steps",
        lambda row, _: _count(row["training_steps"]),
        "rounds from which a policy was learned.",
        narrow="training\nsteps",
    ),
    Column(
        "training visits",
        lambda row, _: _count(row["training_visits"]),
        "visits of these rounds.",
        narrow="training\nvisits",
    ),
    Column(
        "tokens a round",
        lambda row, _: f"{row['prompt_tokens_per_step']:,.0f}",
        "tokens of prompts.",
        narrow="tokens\n/step",
    ),
    Column("calls a round", lambda row, _: f"{row['calls_per_step']:,.1f}", narrow="calls\n/step"),
    Column(
        "no use",
        lambda row, _: _useless(row),
        "replies of models that were of no use, so that written fallbacks answered.",
    ),
    Column("visits", lambda row, _: str(row["visits"])),
    Column("failed", lambda row, _: _count(row["failed"]), "visits that are missing."),
    Column(
        "critic AUC",
        _critic("auc"),
        "of low values for leaving at that round (0.5 is chance).",
        narrow="critic\nAUC",
    ),
    Column(
        "critic rank",
        _critic("rank_correlation"),
        "correlation of values with the return still to come.",
        narrow="critic\nrank",
    ),
)
_BY_NAME = {column.name: column for column in _COLUMNS}
# Columns of the tables in a terminal.
MAIN_COLUMNS = ("length", "reward", "total reward")
COMPARISON_COLUMNS = ("learned", "minus billp", "gap closed")
DETAIL_COLUMNS = ("items", "tail", "repeats", "critic AUC", "critic rank")
# What a variant took: a table of its own, in the terminal and on the page, since one with all columns is too wide.
EFFORT_COLUMNS = ("tuning visits", "training steps", "training visits", "tokens a round", "calls a round", "no use")
PAGE_EFFORT_COLUMNS = ("visits", "failed", *EFFORT_COLUMNS)
# The page has the Critic's columns in a table of their own, with intervals.
PAGE_COLUMNS = tuple(name for name in _BY_NAME if name not in PAGE_EFFORT_COLUMNS and not name.startswith("critic"))


def shown_columns(names: Sequence[str], rows: Sequence[Row]) -> list[Column]:
    """Return the columns of these names in which any row has a value, with the best rule's name in the legends."""
    columns = [_BY_NAME[name] for name in names]
    rule = str(best_rule(rows))
    return [
        column._replace(legend=column.legend.replace("BEST_RULE", rule))
        for column in columns
        if any(column.cell(row) for row in rows)
    ]
