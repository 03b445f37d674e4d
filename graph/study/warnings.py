"""Warnings of a study: settings by which little is learned, and outlooks that were not used or told nothing."""

from collections.abc import Mapping, Sequence

from graph.ablation import named, without_part
from graph.study.baselines import OUTLOOK_ONLY
from graph.study.results import JsonDict, RowKey
from graph.study.settings import StudySettings
from graph.variants import VARIANTS, variant_settings
from nodes.outlook import outlook
from sim.metrics.calibration import ReliabilityBin


def settings_warnings(settings: StudySettings) -> list[str]:
    """Return a sentence for each setting by which a study's learners learn less than a reader would expect."""
    if not any(one == OUTLOOK_ONLY or (one in VARIANTS and VARIANTS[one].remembers) for one in settings.variants):
        return []
    if settings.train == 0:
        return [] if settings.learn_at_test else ["--train 0: nothing is learned before the visits that are measured."]
    if settings.train <= settings.cohort:
        return [
            f"--train {settings.train} is not above --cohort {settings.cohort}: all train visits are of one cohort, so "
            "none recalls what another taught."
        ]
    return []


def outlook_warnings(
    settings: StudySettings, tested: Mapping[RowKey, Sequence[JsonDict]], rows: Sequence[JsonDict]
) -> list[str]:
    """Return a sentence for each row whose outlook was not used, or told the visits no better than their leave rate.

    Args:
        settings: Settings of the study.
        tested: Visits of each row.
        rows: Rows of the study.
    """
    found = []
    for row in rows:
        key = RowKey.of(row)
        name = named(key.variant, key.without) + ("" if key.memory == "full" else f" ({key.memory})")
        if _has_outlook(key, settings):
            visits = tested[key]
            unused = sum(all(step["risk"] is None for step in visit["steps"]) for visit in visits)
            if unused:
                found.append(
                    f"{name}: its outlook was not used in {unused} of {len(visits)} visits, because it told the rounds "
                    "in memory no better than their leave rate does: the Actor made its own shortlist."
                )
        if row["reliability"] is not None and _misleads(row["reliability"]):
            worst = max(row["reliability"], key=lambda group: abs(group["risk"] - group["left"]))
            found.append(
                f"{name}: its outlook told these visits no better than their leave rate does: of the {worst['rounds']} "
                f"rounds to which it gave a risk of {worst['risk']:.0%}, {worst['left']:.0%} ended the visit."
            )
    return found


def _has_outlook(key: RowKey, settings: StudySettings) -> bool:
    if key.variant not in VARIANTS or outlook not in VARIANTS[key.variant].nodes:
        return False
    context = without_part(variant_settings(key.variant, settings.context), key.without)
    return context.outlook and context.choices != "free"


def _misleads(groups: Sequence[ReliabilityBin]) -> bool:
    """Return whether the leave rate of all rounds is nearer than the risks to the shares of the groups that left."""
    if len(groups) < 2:
        # The leave rate of one group is its share.
        return False
    rounds = sum(group["rounds"] for group in groups)
    rate = sum(group["left"] * group["rounds"] for group in groups) / rounds
    by_risk = sum(group["rounds"] * (group["risk"] - group["left"]) ** 2 for group in groups)
    by_rate = sum(group["rounds"] * (rate - group["left"]) ** 2 for group in groups)
    return by_risk > by_rate
