"""The rows of results.json: what a study says of each variant, and of it beside the others."""

from collections.abc import Mapping, Sequence
from typing import Any

from graph.cells import FAILED
from graph.protocol import StudySettings
from nodes.state import COST_DIGITS, Usage
from sim.metrics import gap_closed, paired, summarize
from sim.prediction import judge_values
from sim.tuning import Tuned
from sim.variety import long_tail, variety
from sim.world import World

# What every other variant is compared with, user by user.
REFERENCE = "billp"
# Baselines that follow a rule, fixed or tuned; the best of those in a study is where its gap begins.
RULES = ("random", "popular", "greedy", "diverse_greedy", "genre_greedy", "pop_greedy")
UPPER_MARK = "oracle"

Line = dict[str, Any]


def study_rows(
    settings: StudySettings, lines: Sequence[Line], world: World, tuned: Mapping[str, Tuned], priced: bool
) -> list[Line]:
    """Return one row for each variant of a study.

    Args:
        settings: What decides the results.
        lines: All visits of all cells, those that failed included.
        world: The world.
        tuned: What was found for each baseline that had to be tuned.
        priced: Whether the prices of all models are known.

    Returns:
        Of each variant, over its visits to dev (or test) users with all seeds, unless said otherwise:

        - `variant`, `split`; `failed`, `usage` and `cost`, which count train visits too.
        - `tuning_visits` and `parameters`: the visits of train users that tuning took, 0 where there was none, and the
          parameters that it found (else null), in the order of the policy's fields.
        - the fields of `sim.metrics.Summary` and of `sim.variety.Variety`.
        - `minus_billp`: `sim.metrics.paired` of this variant and `billp`, so above 0 where this one keeps users better;
          null for `billp` itself, and where `billp` is not in the study.
        - `gap_closed`: `sim.metrics.gap_closed` between the best of the `RULES` in the study and `oracle`; null where
          there is none of these.
        - `critic`: `sim.prediction.judge_values`; null where no Critic takes part.
    """
    by_variant = {variant: [one for one in lines if one["variant"] == variant] for variant in settings.variants}
    tested = {
        variant: [one for one in own if one["split"] == settings.test_split and FAILED not in one]
        for variant, own in by_variant.items()
    }
    tail = long_tail(world)
    rows = [
        {
            "variant": variant,
            "split": settings.test_split,
            **_effort(own, priced),
            "tuning_visits": tuned[variant].visits if variant in tuned else 0,
            "parameters": list(tuned[variant].parameters) if variant in tuned else None,
            **summarize(tested[variant]),
            **variety(tested[variant], tail),
            "minus_billp": _minus_reference(variant, tested),
            "critic": judge_values(
                tested[variant], gamma=settings.context.gamma, reward_offset=settings.context.reward_offset
            ),
        }
        for variant, own in by_variant.items()
    ]
    return _with_gaps(rows)


def best_rule(rows: Sequence[Line]) -> str | None:
    """Return the rule that collects most; None where none is among the rows."""
    rules = [row for row in rows if row["variant"] in RULES]
    return max(rules, key=lambda row: float(row["total_reward"]))["variant"] if rules else None


def _effort(own: Sequence[Line], priced: bool) -> Line:
    visits = [one for one in own if FAILED not in one]
    usage = sum((Usage.model_validate(one["usage"]) for one in visits), Usage())
    return {
        "failed": len(own) - len(visits),
        "usage": usage.model_dump(exclude={"cost"}),
        "cost": round(usage.cost, COST_DIGITS) if priced else None,
    }


def _minus_reference(variant: str, tested: Mapping[str, Sequence[Line]]) -> Line | None:
    if variant == REFERENCE or REFERENCE not in tested:
        return None
    users, others = ({visit["user_id"] for visit in tested[one]} for one in (variant, REFERENCE))
    # Where visits failed, no user may be left who was visited by both.
    return dict(paired(tested[variant], tested[REFERENCE])) if users & others else None


def _with_gaps(rows: list[Line]) -> list[Line]:
    totals = {row["variant"]: row["total_reward"] for row in rows}
    rule = best_rule(rows)
    known = rule is not None and UPPER_MARK in totals
    return [
        row | {"gap_closed": gap_closed(row["total_reward"], totals[rule], totals[UPPER_MARK]) if known else None}
        for row in rows
    ]
