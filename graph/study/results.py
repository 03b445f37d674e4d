"""The rows of results.json: what a study says of each variant, and of it beside the others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graph.ablation import WHOLE, Part
from graph.report.schema import best_rule
from graph.study.baselines import Effort
from graph.study.settings import CURVE, MEMORY, RETURNING, WITHOUT, StudySettings
from graph.study.workers import FAILED
from graph.variants import own_settings, variant_settings
from nodes.context import Context
from nodes.llm.endpoint.usage import COST_DIGITS, Usage
from sim.metrics import paired, summarize
from sim.metrics.calibration import PredictionQuality, judge_risks, judge_values
from sim.metrics.diversity import long_tail, variety
from sim.metrics.summary import gap_closed
from sim.world import World


class RowKey(NamedTuple):
    """What a row is of."""

    variant: str
    without: Part | None
    memory: str


# What every other row is compared with, user by user.
REFERENCE = RowKey("billp", None, "full")
UPPER_MARK = "oracle"

JsonDict = dict[str, Any]


def study_rows(
    settings: StudySettings, lines: Sequence[JsonDict], world: World, efforts: Mapping[str, Effort], priced: bool
) -> list[JsonDict]:
    """Return one row for each variant of a study, and for each way in which its memory was changed; without parts too.

    Args:
        settings: What decides the results.
        lines: All visits of all cells, those that failed included, in the order of `graph.study.settings.cells_of`.
        world: The world.
        efforts: What it took to come by each variant's policy, where that is a baseline's.
        priced: Whether the prices of all models are known.

    Returns:
        Of each variant, over its visits to dev (or test) users with all seeds, unless said otherwise:

        - `variant`, `split`, and `memory`: `full`, or the control that changed what it recalls.
        - `without`: the part of the agent that was switched off while it learned and was visited; null for none.
        - `failed`, `usage` and `cost`, which count all other visits too in the row of the full memory.
        - the fields of `graph.study.baselines.Effort`: what a baseline was tuned or trained by.
        - the fields of `sim.metrics.summary.Summary` and of `sim.metrics.diversity.Variety`.
        - `minus_billp`: `sim.metrics.paired` of this row and `billp` with its memory, so above 0 where this one keeps
          users better; null for that row itself, and where `billp` is not in the study.
        - `minus_full`: the same, of a row without a part and the row of the same agent and memory with all parts, so
          below 0 where the part is worth something; null for rows with all parts.
        - `gap_closed`: `sim.metrics.summary.gap_closed` between the best of the `RULE_BASELINES` in the study and
          `oracle`; null where there is none of these.
        - `critic`: `sim.metrics.calibration.judge_values`; null where no Critic takes part.
        - `reliability`: `sim.metrics.calibration.judge_risks`; null where there is no outlook.
        - `settings`: those of the variant that differ from the study's, where there are any.
        - `curve` and `returning`, where they were asked for and there is a memory: see `_curve` and `_returning`.
    """
    by_row: dict[RowKey, list[JsonDict]] = {}
    for line in lines:
        by_row.setdefault(RowKey(line["variant"], line[WITHOUT], line[MEMORY]), []).append(line)
    tested = {
        key: [one for one in own if one["split"] == settings.test_split and not {FAILED, CURVE, RETURNING} & one.keys()]
        for key, own in by_row.items()
    }
    tail = long_tail(world)
    rows = [
        {
            "variant": key.variant,
            WITHOUT: key.without,
            "split": settings.test_split,
            MEMORY: key.memory,
            **_effort(own, priced),
            **efforts[key.variant].model_dump(mode="json"),
            **summarize(tested[key]),
            **variety(tested[key], tail),
            "minus_billp": _minus(key, REFERENCE, tested),
            "minus_full": _minus(key, RowKey(WHOLE, None, key.memory), tested) if key.without else None,
            "critic": _critic(variant_settings(key.variant, settings.context), tested[key]),
            "reliability": judge_risks(tested[key]),
            **_curve(own),
            **_returning(own),
            **_settings(key.variant, settings.context),
        }
        for key, own in by_row.items()
    ]
    return _with_gaps(rows)


def _effort(own: Sequence[JsonDict], priced: bool) -> JsonDict:
    visits = [one for one in own if FAILED not in one]
    usage = sum((Usage.model_validate(one["usage"]) for one in visits), Usage())
    return {
        "failed": len(own) - len(visits),
        "usage": usage.model_dump(exclude={"cost"}),
        "cost": round(usage.cost, COST_DIGITS) if priced else None,
    }


def _minus(key: RowKey, reference: RowKey, tested: Mapping[RowKey, Sequence[JsonDict]]) -> JsonDict | None:
    if key == reference or reference not in tested:
        return None
    users, others = ({visit["user_id"] for visit in tested[one]} for one in (key, reference))
    # Where visits failed, no user may be left who was visited by both.
    return dict(paired(tested[key], tested[reference])) if users & others else None


def _critic(context: Context, visits: Sequence[JsonDict]) -> PredictionQuality | None:
    return judge_values(visits, gamma=context.gamma, reward_offset=context.reward_offset)


def _settings(variant: str, context: Context) -> JsonDict:
    own = own_settings(variant, context)
    return {"settings": own} if own else {}


def _curve(own: Sequence[JsonDict]) -> JsonDict:
    """Return the learning curve: the total reward of dev users after so many cohorts, and train visits."""
    points = _grouped(own, ("cohorts", CURVE))
    return {"curve": points} if points else {}


def _returning(own: Sequence[JsonDict]) -> JsonDict:
    """Return the total reward of the same users by whose records are recalled, and number of their visit, from 1."""
    points = _grouped(own, (RETURNING, "visit"))
    return {"returning": points} if points else {}


def _grouped(own: Sequence[JsonDict], names: tuple[str, ...]) -> list[JsonDict]:
    """Return the total reward of the visits that have fields of these names, by their values."""
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
