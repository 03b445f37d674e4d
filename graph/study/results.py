"""Rows of results.json: metrics of each variant, and its comparison with the other variants."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graph.ablation import WHOLE, Part
from graph.report.replies import count_replies
from graph.report.schema import UPPER_MARK, best_rule
from graph.study.baselines import Effort
from graph.study.cohorts import Cohorts
from graph.study.memory_controls import PRIOR
from graph.study.schedule import visitors
from graph.study.settings import CURVE, FAILED, MEMORY, RETURNING, WITHOUT, StudySettings
from graph.variants import own_settings, variant_settings
from nodes.context import Context
from nodes.llm.endpoint.usage import COST_DIGITS, Usage
from sim.metrics import paired, summarize
from sim.metrics.calibration import PredictionQuality, judge_risks, judge_values
from sim.metrics.diversity import long_tail, variety
from sim.metrics.summary import PairedDifference, gap_closed
from sim.world import World


class RowKey(NamedTuple):
    """Variant, missing part and memory control of a row."""

    variant: str
    without: Part | None
    memory: str

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "RowKey":
        """Return the key of a row, or of the row of a visit's line."""
        return cls(line["variant"], line[WITHOUT], line[MEMORY])


# Row that every other row is compared with, user by user.
REFERENCE = RowKey("billp", None, "full")

JsonDict = dict[str, Any]


def study_rows(
    settings: StudySettings,
    lines: Sequence[JsonDict],
    tested: Mapping[RowKey, list[JsonDict]],
    world: World,
    efforts: Mapping[str, Effort],
    priced: bool,
) -> list[JsonDict]:
    """Return one row for each variant and memory control of a study, and for each part that was switched off.

    Args:
        settings: Settings of the study.
        lines: All visits of all cells, failed ones too, in the order of `graph.study.settings.cells_of`.
        tested: Visits of each row, by `tested_visits`.
        world: World of the study.
        efforts: Effort spent on the policy of each baseline, by variant.
        priced: Whether the prices of all models are known.

    Returns:
        For each variant, over its visits to dev (or test) users with all seeds, unless noted:

        - `variant`, `split`, and `memory`: `full`, or the control that changed the recalled memory.
        - `without`: part of the agent that was switched off in training and test; null if none.
        - `failed`, `usage` and `cost`; in the row of the full memory these include all other visits too.
        - the fields of `graph.study.baselines.Effort`: tuning and training of a baseline.
        - the fields of `sim.metrics.summary.Summary` and of `sim.metrics.diversity.Variety`.
        - `minus_billp`: `sim.metrics.paired` of this row and `billp` with its memory, positive if this row keeps users
          better; null for the row of `billp` itself, and if `billp` is not in the study.
        - `learned`: the same, of this row and the control `prior`: the part of the reward that visits taught; null for
          controls, and without the control `prior`.
        - `minus_full`: the same, of a row without a part and the row of the same agent and memory with all parts,
          negative if the part is worth something; null for rows with all parts.
        - `gap_closed`: `sim.metrics.summary.gap_closed` between the best of the `RULE_BASELINES` in the study and
          `oracle`; null if either is missing.
        - `critic`: `sim.metrics.calibration.judge_values`; null without a Critic.
        - `reliability`: `sim.metrics.calibration.judge_risks`; null without an outlook.
        - `reliability_without_pairs`: the same of the risks without the evidence of pairs.
        - `replies`: `graph.report.replies.count_replies`, by role.
        - `settings`: settings of the variant that differ from the study's, if any.
        - `curve` and `returning`, if requested and the variant has a memory: see `_curve` and `_returning`.
        - `by_cohort` and `first_and_last`, if the study learns at test: see `graph.study.cohorts`.
    """
    tail = long_tail(world)
    rows = _with_gaps(
        [
            {
                **_identity(key, settings),
                **_effort(own, priced),
                # Other rows have the policy of the full row, or one that was never trained.
                **(efforts[key.variant] if key.memory == "full" else Effort()).model_dump(mode="json"),
                **summarize(tested[key]),
                **variety(tested[key], tail),
                **_differences(key, tested),
                **_judgements(key, tested[key], settings),
                **_curve(own),
                **_returning(own),
                **_settings(key.variant, settings.context),
            }
            for key, own in _by_row(lines).items()
        ]
    )
    return _with_cohorts(rows, tested, settings, world) if settings.learn_at_test else rows


def _identity(key: RowKey, settings: StudySettings) -> JsonDict:
    return {"variant": key.variant, WITHOUT: key.without, "split": settings.test_split, MEMORY: key.memory}


def _differences(key: RowKey, tested: Mapping[RowKey, list[JsonDict]]) -> JsonDict:
    """Return the differences between a row and the rows that it is compared with."""
    return {
        "minus_billp": difference_of(key, REFERENCE, tested),
        "learned": difference_of(key, key._replace(memory=PRIOR), tested) if key.memory == "full" else None,
        "minus_full": difference_of(key, RowKey(WHOLE, None, key.memory), tested) if key.without else None,
    }


def _judgements(key: RowKey, tested: list[JsonDict], settings: StudySettings) -> JsonDict:
    """Return how well values and risks were judged, and what the replies of the roles were worth."""
    return {
        "critic": _critic(variant_settings(key.variant, settings.context), tested),
        "reliability": judge_risks(tested),
        "reliability_without_pairs": judge_risks(tested, "prior_risk"),
        "replies": count_replies(tested),
    }


def tested_visits(settings: StudySettings, lines: Sequence[JsonDict]) -> dict[RowKey, list[JsonDict]]:
    """Return the visits that each row of a study measures: to dev (or test) users, once each, without failed ones."""
    return {
        key: [one for one in own if one["split"] == settings.test_split and not {FAILED, CURVE, RETURNING} & one.keys()]
        for key, own in _by_row(lines).items()
    }


def _by_row(lines: Sequence[JsonDict]) -> dict[RowKey, list[JsonDict]]:
    by_row: dict[RowKey, list[JsonDict]] = {}
    for line in lines:
        by_row.setdefault(RowKey.of(line), []).append(line)
    return by_row


def _effort(own: Sequence[JsonDict], priced: bool) -> JsonDict:
    visits = [one for one in own if FAILED not in one]
    usage = sum((Usage.model_validate(one["usage"]) for one in visits), Usage())
    return {
        "failed": len(own) - len(visits),
        "usage": usage.model_dump(exclude={"cost"}),
        "cost": round(usage.cost, COST_DIGITS) if priced else None,
    }


def difference_of(
    key: RowKey, reference: RowKey, tested: Mapping[RowKey, Sequence[JsonDict]]
) -> PairedDifference | None:
    """Return the paired difference of a row from another; None if it is the same or missing, or has no user of it."""
    if key == reference or reference not in tested:
        return None
    users, others = ({visit["user_id"] for visit in tested[one]} for one in (key, reference))
    # After failed visits, the two rows may have no user in common.
    return paired(tested[key], tested[reference]) if users & others else None


def _critic(context: Context, visits: Sequence[JsonDict]) -> PredictionQuality | None:
    return judge_values(visits, gamma=context.gamma, reward_offset=context.reward_offset)


def _settings(variant: str, context: Context) -> JsonDict:
    own = own_settings(variant, context)
    return {"settings": own} if own else {}


def _curve(own: Sequence[JsonDict]) -> JsonDict:
    """Return the learning curve: total reward of dev users by the cohorts and train visits so far."""
    points = _grouped(own, ("cohorts", CURVE))
    return {"curve": points} if points else {}


def _returning(own: Sequence[JsonDict]) -> JsonDict:
    """Return the total reward of the same users, by the recalled records and the number of the visit, from 1."""
    points = _grouped(own, (RETURNING, "visit"))
    return {"returning": points} if points else {}


def _grouped(own: Sequence[JsonDict], names: tuple[str, ...]) -> list[JsonDict]:
    """Return the total reward of the visits that have the named fields, by the values of these fields."""
    groups: dict[tuple[Any, ...], list[JsonDict]] = {}
    for line in own:
        if FAILED not in line and names[0] in line:
            groups.setdefault(tuple(line[name] for name in names), []).append(line)
    totals = ((values, summarize(visits)) for values, visits in groups.items())
    return [
        {**dict(zip(names, values, strict=True)), **{name: total[name] for name in ("total_reward", "total_reward_ci")}}
        for values, total in totals
    ]


def _with_gaps(rows: list[JsonDict]) -> list[JsonDict]:
    totals = {row["variant"]: row["total_reward"] for row in rows if row[MEMORY] == "full" and row[WITHOUT] is None}
    rule = best_rule(rows)
    known = rule is not None and UPPER_MARK in totals
    return [
        row | {"gap_closed": gap_closed(row["total_reward"], totals[rule], totals[UPPER_MARK]) if known else None}
        for row in rows
    ]


def _with_cohorts(
    rows: list[JsonDict], tested: Mapping[RowKey, Sequence[JsonDict]], settings: StudySettings, world: World
) -> list[JsonDict]:
    """Return the rows, which are in the order of `tested`, with their results by cohort."""
    cohorts = Cohorts(visitors(world, settings.test_split, settings.test, 0), settings.cohort)
    rule, oracle = (tested.get(RowKey(str(name), None, "full"), []) for name in (best_rule(rows), UPPER_MARK))
    return [
        {**row, "by_cohort": cohorts.rewards(own), **_first_and_last(cohorts, own, rule, oracle)}
        for row, own in zip(rows, tested.values(), strict=True)
    ]


def _first_and_last(cohorts: Cohorts, *visits: Sequence[JsonDict]) -> JsonDict:
    found = cohorts.first_and_last(*visits)
    return {"first_and_last": found} if found else {}
