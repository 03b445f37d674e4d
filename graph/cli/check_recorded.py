"""Check of the code against recorded runs of the original: leave rule, rewards, titles, credit and metrics."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from memory.embeddings import shared_embeddings
from nodes.critic import advantage
from nodes.tools.grounding import Grounder, Mode
from sim.catalogue import Catalogue
from sim.leave import LeaveReason, LeaveRule
from sim.metrics import summarize
from sim.original.runs import Credited, Decision, Recorded, RecordedVisit, Rewarded

# The recordings have no distances; the recorded cause of leaving only shows on which side of tau a distance is.
NEAR, LEAST_DISTANCE, FAR = 0.0, 0.5, 1.0
RULE = LeaveRule(min_distance=LEAST_DISTANCE)
METRICS: tuple[Literal["length", "length_with_exit", "mean_reward", "total_reward"], ...] = (
    "length",
    "length_with_exit",
    "mean_reward",
    "total_reward",
)
SHOWN = 5
"""Contradictions that a report shows for each check."""
_MODES: tuple[Mode, ...] = ("fresh", "nearest")
_REASONS: dict[str, LeaveReason] = {
    "repeat_in_window": "repeat",
    "distance": "similar",
    "reward_lt_2": "disliked",
    "reward_lt_2_implied": "disliked",
}


class Check(BaseModel):
    """Result of one check."""

    name: str
    agree: int = 0
    """Records that the code reproduces."""
    open: int = 0
    """Records with too little information for a decision, and without a contradiction."""
    contradictions: list[str] = Field(default_factory=list)
    """One line for each record that the code contradicts."""

    def note(self, agrees: bool, otherwise: str) -> None:
        """Count a decided record."""
        if agrees:
            self.agree += 1
        else:
            self.contradictions.append(otherwise)


class RunMetrics(BaseModel):
    """Metrics of one recorded run, computed by `summarize`."""

    run: str
    visits: int
    left_out: int
    """Visits left out of the metrics: the user stayed at an unknown reward, rounds follow their leaving, or no round
    was recorded.
    """
    length: float | None = None
    length_with_exit: float | None = None
    mean_reward: float | None = None
    total_reward: float | None = None


class Conformance(BaseModel):
    """Result of all checks of recorded files."""

    files: dict[str, tuple[str, int]]
    checks: list[Check]
    runs: list[RunMetrics]

    @property
    def agrees(self) -> bool:
        """Whether no record contradicts the code."""
        return not any(check.contradictions for check in self.checks)


def check_recorded(recorded: Recorded) -> Conformance:
    """Run every check that the files allow."""
    rounds = [row for episode in recorded.episodes for row in decisions_of(episode)]
    in_episodes = check_leaving("rounds of episodes", rounds)
    for episode in recorded.episodes:
        if any(step.done for step in episode.steps[:-1]):
            in_episodes.note(False, f"{episode.file}, user {episode.user_id}: rounds follow although the user left")
    return Conformance(
        files=recorded.files,
        checks=[
            check_leaving("leave decisions", recorded.decisions),
            in_episodes,
            check_rewards(recorded.rewards, [*rounds, *recorded.decisions]),
            check_titles(recorded.catalogues, _groundings(recorded)),
            check_credit(recorded.credited),
        ],
        runs=run_metrics(recorded.episodes),
    )


def decisions_of(episode: RecordedVisit) -> Iterator[Decision]:
    """Yield the rounds of a visit as decisions without a cause; the item is the one the text was grounded to."""
    items = [step.grounded or f"(no item, round {index})" for index, step in enumerate(episode.steps)]
    for index, step in enumerate(episode.steps):
        if step.grounded is None:
            # No item was recommended, so there is no decision.
            continue
        yield Decision(
            file=episode.file,
            matrix=episode.matrix,
            user_id=episode.user_id,
            t=index,
            item=items[index],
            window=tuple(items[max(0, index - RULE.window) : index]),
            left=step.done,
            reward=step.reward,
            cause=None,
        )


def check_leaving(name: str, decisions: Iterable[Decision]) -> Check:
    """Check that the leave rule reproduces the recorded decisions and causes."""
    check = Check(name=name)
    for row in decisions:
        possible = possible_reasons(row)
        agreeing = {reason for reason in possible if (reason is not None) == row.left and _fits(row.cause, reason)}
        if agreeing and agreeing != possible:
            check.open += 1
            continue
        said = f"left ({row.cause or 'no cause given'})" if row.left else "stayed"
        ours = " or ".join(sorted(reason or "stay" for reason in possible))
        check.note(bool(agreeing), f"{_place(row)}: {said} at {row.item!r}, but the rule gives: {ours}")
    return check


def possible_reasons(row: Decision) -> set[LeaveReason | None]:
    """Return the possible results of the leave rule: one, or several if reward or distance is unknown."""
    if row.reward is not None:
        rewards = [row.reward]
    elif row.cause == "reward_lt_2_implied":
        rewards = [RULE.min_reward - 1]
    else:
        rewards = [RULE.min_reward - 1, RULE.min_reward]
    if row.cause == "distance":
        distances = [NEAR]
    elif row.cause in _REASONS or not row.left:
        # A different cause, or none, means that no remembered item was near.
        distances = [FAR]
    else:
        distances = [NEAR, FAR]
    return {_reason(row.item, row.window, reward, gap) for reward in rewards for gap in distances}


def _reason(item: str, window: Sequence[str], reward: float, gap: float) -> LeaveReason | None:
    return RULE.reason(item, window, reward, lambda one, other: gap)


def _fits(cause: str | None, reason: LeaveReason | None) -> bool:
    if cause == "reward_or_distance":
        return reason in ("similar", "disliked")
    return cause not in _REASONS or reason == _REASONS[cause]


def check_rewards(rewards: Iterable[Rewarded], decisions: Iterable[Decision]) -> Check:
    """Check that a user always gives an item the same reward within one table of rewards."""
    check = Check(name="rewards")
    table: dict[tuple[str, str, str], float] = {}
    for row in rewards:
        known = table.setdefault((row.matrix, row.user_id, row.item), row.reward)
        if known != row.reward:
            check.note(False, f"{row.matrix}, user {row.user_id}: {row.item!r} has rewards {known} and {row.reward}")
    given = bool(table)
    for one in decisions:
        if one.reward is None:
            continue
        key = (one.matrix, one.user_id, one.item)
        if given and key not in table:
            check.open += 1
            continue
        known = table.setdefault(key, one.reward)
        check.note(known == one.reward, f"{_place(one)}: {one.item!r} has reward {one.reward}, but elsewhere {known}")
    return check


def check_titles(catalogues: Iterable[Catalogue], groundings: Sequence[tuple[str, str]]) -> Check:
    """Check that an exact title is grounded to itself in both modes, and was so in the recorded runs."""
    check = Check(name="exact titles")
    for catalogue in catalogues:
        grounders = [Grounder(catalogue, shared_embeddings(), mode=mode) for mode in _MODES]
        exact = [(item.title, item.title) for item in catalogue if item.title.strip()]
        # A text may be a title of one catalogue but have been recorded with another.
        exact += [pair for pair in groundings if all(map(catalogue.by_title, pair))]
        for text, title in exact:
            found = [grounder.named(text) for grounder in grounders]
            titles = [match.item.title if match else None for match in found]
            check.note(titles == [title, title], f"{text!r} was grounded to {title!r}, but now to {titles}")
    return check


def _groundings(recorded: Recorded) -> list[tuple[str, str]]:
    steps = [step for episode in recorded.episodes for step in episode.steps]
    return recorded.grounded + [(one.generated, one.grounded) for one in steps if one.generated and one.grounded]


def check_credit(rows: Iterable[Credited]) -> Check:
    """Check that the advantage rule `value_difference` reproduces the recorded signs."""
    check = Check(name="signs of credit")
    for row in rows:
        sign = advantage(
            0.0,
            row.v,
            row.v_next,
            left=False,
            gamma=1.0,
            leave_penalty=0.0,
            reward_offset=0.0,
            rule="value_difference",
        )
        check.note(
            sign == row.memory,
            f"{row.run}, user {row.user_id}, round {row.t}: V {row.v:g} to {row.v_next:g} was stored as "
            f"{row.memory:g}, but the rule gives {sign:g}",
        )
    return check


def run_metrics(episodes: Iterable[RecordedVisit]) -> list[RunMetrics]:
    """Return the metrics of each run, in order of first occurrence."""
    runs: dict[str, list[RecordedVisit]] = {}
    for episode in episodes:
        runs.setdefault(episode.file, []).append(episode)
    return [_metrics(run, visits) for run, visits in runs.items()]


def _metrics(run: str, episodes: list[RecordedVisit]) -> RunMetrics:
    visits = [_visit(one) for one in episodes if _counts(one)]
    metrics = RunMetrics(run=run, visits=len(visits), left_out=len(episodes) - len(visits))
    if not visits:
        return metrics
    summary = summarize(visits)
    return metrics.model_copy(update={name: summary[name] for name in METRICS})


def _counts(episode: RecordedVisit) -> bool:
    if not episode.steps:
        return False
    *before, last = episode.steps
    return (last.done or last.reward is not None) and all(not one.done and one.reward is not None for one in before)


def _visit(episode: RecordedVisit) -> dict[str, object]:
    left = episode.steps[-1].done
    stays = [step.reward or 0.0 for step in episode.steps if not step.done]
    return {
        "user_id": episode.user_id,
        "length": len(stays),
        "length_with_exit": len(episode.steps),
        "total_reward": sum(stays),
        "left": left,
        # A recorded visit has no leave reason. `summarize` requires one, but none of the `METRICS` uses it.
        "leave_reason": "similar" if left else None,
    }


def report_lines(found: Conformance) -> Iterator[str]:
    """Yield the lines of a report for people."""
    for name, (kind, rows) in found.files.items():
        yield f"{rows:>6,} {kind:<11} {name}"
    for check in found.checks:
        if check.agree or check.open or check.contradictions:
            yield (
                f"{check.name}: {check.agree:,} agree, {len(check.contradictions):,} contradict, "
                f"{check.open:,} undecided"
            )
            yield from (f"    {line}" for line in check.contradictions[:SHOWN])
            if len(check.contradictions) > SHOWN:
                yield f"    and {len(check.contradictions) - SHOWN:,} more (--json shows all)"
        else:
            yield f"{check.name}: nothing to check in these files"
    for run in found.runs:
        figures = ", ".join(f"{name} {value:.3f}" for name in METRICS if (value := getattr(run, name)) is not None)
        left_out = f", {run.left_out} left out" if run.left_out else ""
        yield f"{run.run}: {run.visits} visits{left_out}{': ' if figures else ''}{figures}"
    yield "everything agrees" if found.agrees else "the code and the records contradict each other"


def _place(row: Decision) -> str:
    return f"{row.file}, user {row.user_id}, round {row.t}"
