"""Plots of a report, as SVG: the same results give the same bytes."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from graph.report.columns import signed_with_interval
from graph.report.schema import CohortReward, CurvePoint, ShownStep
from sim.metrics.calibration import ReliabilityBin
from sim.metrics.summary import LeaveReasons

# Inches; the width of a phone, so that letters keep their size there.
WIDTH = 4.2
ROUND_WIDTH = 0.085
LINE = 0.27
# Inches that an entry of a legend takes besides its name, that a letter of the name takes, and the height of an entry.
ENTRY_WIDTH, LETTER_WIDTH, ENTRY_HEIGHT = 0.45, 0.065, 0.17
# Placeholder colour: the page replaces it by a colour that follows its light or dark scheme.
INK = "#1f2328"
FAINT = "#8c959f"
# Colours of Okabe and Ito, which colour-blind readers can tell apart; the text has the same information.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":")
END_COLOURS: dict[Literal["repeat", "similar", "disliked", "chose", "stayed"], str] = {
    "repeat": PURPLE,
    "similar": ORANGE,
    "disliked": RED,
    "chose": SKY,
    "stayed": BLUE,
}
# Maximum number of genres that a reader can tell apart in one plot.
GENRES_DRAWN = 24
# Narrower parts of a bar have no room for a label.
LEAST_LABELLED = 0.07
STYLE = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    # Names come from outside the project, and a dollar sign in a name must stay a dollar sign.
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


class Picture(NamedTuple):
    """Plot with a text description."""

    svg: str
    """SVG element for a page; Matplotlib escapes every text that it draws."""
    alt: str
    width: float
    """Width in inches at which letters have their natural size."""


def draw_rewards(totals: Mapping[str, Sequence[float]], agents: frozenset[str]) -> Picture:
    """Draw the distribution of the total reward of visits, one line per variant."""
    variants = list(totals)

    def draw(axes: Axes) -> None:
        boxes = axes.boxplot(
            [totals[variant] for variant in variants],
            orientation="horizontal",
            whis=(5, 95),
            widths=0.6,
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            medianprops={"color": INK, "linewidth": 1.4},
            meanprops={"marker": "D", "markerfacecolor": INK, "markeredgecolor": INK, "markersize": 3.5},
            whiskerprops={"color": FAINT},
            capprops={"color": FAINT},
        )
        for variant, box in zip(variants, boxes["boxes"], strict=True):
            box.set(facecolor=SKY if variant in agents else ORANGE, edgecolor=FAINT)
        _name_lines(axes, variants, first=1)
        axes.set(xlabel="total reward of a visit", xlim=(0, None))

    texts = [f"{variant} {np.median(totals[variant]):.1f}" for variant in variants]
    return _picture(
        "rewards", draw, f"Box plot of total reward by variant. Medians: {', '.join(texts)}.", len(variants)
    )


def draw_ends(ends: Mapping[str, LeaveReasons]) -> Picture:
    """Draw the reasons why visits ended, as shares of each variant's visits."""
    variants = list(ends)
    reasons = [reason for reason in END_COLOURS if any(counts[reason] for counts in ends.values())]

    def draw(axes: Axes) -> None:
        begin = np.zeros(len(variants))
        totals = [sum(counts[reason] for reason in END_COLOURS) for counts in ends.values()]
        for reason in reasons:
            counts = np.array([ends[variant][reason] for variant in variants])
            shares = counts / np.maximum(totals, 1)
            bars = axes.barh(variants, shares, left=begin, color=END_COLOURS[reason], height=0.72, label=reason)
            labels = [str(n) if share >= LEAST_LABELLED else "" for n, share in zip(counts, shares, strict=True)]
            colour = "#ffffff" if reason == "stayed" else "#000000"
            axes.bar_label(bars, labels, label_type="center", color=colour, fontsize=8)
            begin = begin + shares
        _name_lines(axes, variants, first=0)
        axes.grid(False)
        axes.set(xlabel="share of visits (numbers: visits)", xlim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        _legend_above(axes)

    texts = [
        f"{variant}: {', '.join(f'{counts[reason]} {reason}' for reason in reasons if counts[reason])}"
        for variant, counts in ends.items()
    ]
    return _picture("ends", draw, f"Bars of why visits ended. {'; '.join(texts)}.", len(variants) + 1)


def draw_curves(curves: Mapping[str, Sequence[CurvePoint]]) -> Picture:
    """Draw total reward against the number of train visits, with its intervals."""

    def draw(axes: Axes) -> None:
        last = max(point["train_visits"] for points in curves.values() for point in points)
        for number, (variant, points) in enumerate(curves.items()):
            if len(points) == 1:
                # An agent at its prior learns nothing, so its line is level.
                points = [points[0], {**points[0], "train_visits": last}]
            visits = [point["train_visits"] for point in points]
            _line_in_band(axes, number, variant, visits, points)
        axes.set(xlabel="train visits", ylabel="total reward (mean, 95% interval)", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_above(axes)

    texts = [
        f"{variant} from {points[0]['total_reward']:.1f} after {points[0]['train_visits']} train visits "
        f"to {points[-1]['total_reward']:.1f} after {points[-1]['train_visits']}"
        for variant, points in curves.items()
    ]
    return _picture("curves", draw, f"Learning curves. {'; '.join(texts)}.", 8)


def draw_cohorts(cohorts: Mapping[str, Sequence[CohortReward]], marks: Mapping[str, float]) -> Picture:
    """Draw total reward against the number of the test visit at which each cohort ends, with its intervals.

    Args:
        cohorts: Cohorts of each variant.
        marks: Total rewards drawn as level lines, by name.
    """

    def draw(axes: Axes) -> None:
        for number, (variant, points) in enumerate(cohorts.items()):
            _line_in_band(axes, number, variant, [point["last_visit"] for point in points], points)
        for dashes, (name, total) in zip(DASHES[1:], marks.items(), strict=False):
            axes.axhline(total, color=FAINT, linestyle=dashes, label=name)
        axes.set(xlabel="visits so far (end of the cohort)", ylabel="total reward (mean, 95% interval)", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_above(axes)

    texts = [
        f"{variant} from {points[0]['total_reward']:.1f} (to visit {points[0]['last_visit']}) "
        f"to {points[-1]['total_reward']:.1f} (to visit {points[-1]['last_visit']})"
        for variant, points in cohorts.items()
    ]
    texts += [f"{name} {total:.1f}" for name, total in marks.items()]
    return _picture("cohorts", draw, f"Total reward of each cohort of test visits. {'; '.join(texts)}.", 8)


def draw_worth(parts: Mapping[str, tuple[float, Sequence[float] | None]]) -> Picture:
    """Draw the worth of each part of the agent, with its interval, if any."""

    def draw(axes: Axes) -> None:
        for line, (value, interval) in enumerate(parts.values()):
            if interval is not None:
                low, high = interval
                axes.hlines(line, low, high, color=BLUE, linewidth=2)
            axes.plot(value, line, color=BLUE, marker="D", ms=5)
        axes.axvline(0, color=FAINT, linestyle="--")
        _name_lines(axes, list(parts), first=0)
        axes.set(xlabel="total reward with it less that without (95% interval)")

    texts = [f"{name} {signed_with_interval(value, interval)}" for name, (value, interval) in parts.items()]
    return _picture("worth", draw, f"What each part of the agent is worth. {'; '.join(texts)}.", len(parts) + 1)


def draw_visit(steps: Sequence[ShownStep]) -> Picture:
    """Draw the genres of a visit's recommendations round by round, under their rewards."""
    genres = _main_genres(steps)
    rounds = range(1, len(steps) + 1)
    width = max(WIDTH, 1.6 + ROUND_WIDTH * len(steps))
    height = 1.6 + LINE * 0.75 * len(genres)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height))
        top, axes = figure.subplots(2, 1, sharex=True, height_ratios=[0.8, 0.17 * max(len(genres), 1) + 0.2])
        top.plot(rounds, [step["reward"] for step in steps], color=BLUE, marker="o", ms=2.5, lw=1)
        top.set(ylabel="reward", ylim=(0.8, 5.2), yticks=[1, 3, 5])
        for line, genre in enumerate(genres):
            spans = [(number - 0.5, 1.0) for number, step in zip(rounds, steps, strict=True) if genre in step["genres"]]
            axes.broken_barh(spans, (line - 0.38, 0.76), facecolors=ORANGE)
        _name_lines(axes, genres, first=0)
        axes.set(xlabel="round", xlim=(0.5, len(steps) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if steps[-1]["left"]:
            for each in (top, axes):
                each.axvline(len(steps), color=RED, linestyle=":", lw=1.5)
        svg = _svg("visit", figure)
    texts = [f"{genre} in {sum(genre in step['genres'] for step in steps)}" for genre in genres]
    return Picture(svg, f"Genres over {len(steps)} rounds of one visit: {', '.join(texts)}.", width)


def draw_values(groups: Mapping[str, Sequence[tuple[float, float, int]]]) -> Picture:
    """Draw the share of users who left, by the Critic's value.

    Args:
        groups: For each variant, rounds of similar value: mean value, share after which the user left, and number of
            rounds.
    """

    def draw(axes: Axes) -> None:
        for number, (variant, points) in enumerate(groups.items()):
            values, shares, _ = zip(*points, strict=True)
            _line(axes, number, variant, values, shares)
        axes.set(xlabel="the Critic's value, given before the reward", ylabel="rounds after which users left")
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _legend_above(axes)

    texts = [
        f"{variant}: {points[0][1]:.0%} at values around {points[0][0]:.2f}, {points[-1][1]:.0%} at {points[-1][0]:.2f}"
        for variant, points in groups.items()
    ]
    return _picture("values", draw, f"Share of rounds after which users left. {'; '.join(texts)}.", 8)


def draw_reliability(outlooks: Mapping[str, Sequence[ReliabilityBin]]) -> Picture:
    """Draw the leave risk predicted by the outlook against the share of users who left, with its intervals."""

    def draw(axes: Axes) -> None:
        for number, (variant, points) in enumerate(outlooks.items()):
            risks = [point["risk"] for point in points]
            line = _line(axes, number, variant, risks, [point["left"] for point in points])
            low, high = zip(*(point["left_ci"] for point in points), strict=True)
            axes.vlines(risks, low, high, color=line.get_color(), alpha=0.6, linewidth=1.2)
        most = max(max(point["risk"], point["left"]) for points in outlooks.values() for point in points)
        axes.plot([0, most], [0, most], color=FAINT, linestyle="--", label="as said")
        axes.set(xlabel="risk that the outlook named", ylabel="rounds after which users left")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(PercentFormatter(1.0))
        _legend_above(axes)

    texts = [f"{variant}: {', '.join(map(_reliability_in_words, points))}" for variant, points in outlooks.items()]
    return _picture("reliability", draw, f"Reliability of the outlook, with 95% intervals. {'; '.join(texts)}.", 8)


def _reliability_in_words(point: ReliabilityBin) -> str:
    low, high = point["left_ci"]
    return f"{point['left']:.1%} ({low:.1%} to {high:.1%}) left at {point['risk']:.1%}"


def _main_genres(steps: Sequence[ShownStep]) -> list[str]:
    """Return the most frequent genres of a visit, in order of first occurrence."""
    counts: dict[str, int] = {}
    for step in steps:
        for genre in step["genres"]:
            counts[genre] = counts.get(genre, 0) + 1
    most = sorted(counts, key=lambda genre: -counts[genre])[:GENRES_DRAWN]
    return [genre for genre in counts if genre in most]


def _picture(name: str, draw: Callable[[Axes], None], alt: str, lines: int) -> Picture:
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, 0.8 + LINE * lines))
        draw(figure.subplots())
        return Picture(_svg(name, figure), alt, WIDTH)


def _line(axes: Axes, number: int, variant: str, x: Sequence[float], y: Sequence[float]) -> Line2D:
    """Draw the line of a variant, with its own colour, marker and dashes."""
    cycle, place = divmod(number, len(COLOURS))
    dashes = DASHES[cycle % len(DASHES)]
    return axes.plot(
        x, y, color=COLOURS[place], marker=MARKERS[place], ms=4, linestyle=dashes, label=_shortened(variant)
    )[0]


def _line_in_band(
    axes: Axes, number: int, variant: str, x: Sequence[float], points: Sequence[CurvePoint] | Sequence[CohortReward]
) -> None:
    """Draw the total rewards of a variant as a line, in the band of the intervals that there are."""
    line = _line(axes, number, variant, x, [point["total_reward"] for point in points])
    bounds = np.array([point["total_reward_ci"] or (np.nan, np.nan) for point in points])
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=line.get_color(), alpha=0.15, linewidth=0)


def _name_lines(axes: Axes, names: Sequence[str], first: int) -> None:
    """Label the lines of a plot, from top to bottom."""
    axes.set_yticks(range(first, first + len(names)), [_shortened(name) for name in names])
    axes.set_ylim(first + len(names) - 0.4, first - 0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _shortened(name: str, limit: int = 24) -> str:
    line = " ".join(name.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _legend_above(axes: Axes) -> None:
    """Draw the legend above the axes, in as many columns as fit, and make the figure higher by its rows."""
    names = [str(handle.get_label()) for handle in axes.get_legend_handles_labels()[0]]
    columns = max(1, min(len(names), int(WIDTH / (ENTRY_WIDTH + LETTER_WIDTH * max(map(len, names), default=0)))))
    figure = axes.get_figure(root=True)
    if figure is not None:
        figure.set_figheight(figure.get_figheight() + ENTRY_HEIGHT * math.ceil(len(names) / columns))
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        fontsize=8,
        handlelength=1.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _svg(name: str, figure: Figure) -> str:
    """Return a figure as SVG for a page, without a date and with ids that no other plot of the page has."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # The reader's browser has its own fonts, so letters missing from the measuring font do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.draw_without_rendering()
        for number, artist in enumerate(figure.findobj()):
            artist.set_gid(f"{name}-{number}")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
