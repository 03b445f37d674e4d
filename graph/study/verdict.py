"""Verdict of a study: the variant that is ahead, and what its memory is worth to the best agent that has one."""

from collections.abc import Mapping, Sequence

from graph.report.schema import UPPER_MARK, Lead, MemoryWorth, Verdict
from graph.study.memory_controls import Control
from graph.study.results import JsonDict, RowKey, difference_of
from graph.variants import VARIANTS

# Controls that tell what a memory is worth, the most telling first.
_TELLING: tuple[Control, ...] = ("prior", "empty", "shuffled", "inverted")


def study_verdict(tested: Mapping[RowKey, Sequence[JsonDict]], rows: Sequence[JsonDict]) -> Verdict:
    """Return the verdict of a study.

    Args:
        tested: Visits of each row.
        rows: Rows of the study.

    Returns:
        - `lead`: the variant with the highest total reward, and its paired difference from the next best. The oracle,
          changed memories and agents without a part do not take part. Null with fewer than two variants, and if failed
          visits leave the two no user in common.
        - `memory`: of the best agent that has a memory and a memory control, the paired difference of its full memory
          from the control; of several controls, from the first of `prior`, `empty`, `shuffled` and `inverted`. Null
          without a memory control.
        - `remembers`: whether any variant has a memory.
    """
    totals = {RowKey.of(row): row["total_reward"] for row in rows}
    whole = [key for key in totals if key.memory == "full" and key.without is None and key.variant != UPPER_MARK]
    whole.sort(key=lambda key: -totals[key])
    agents = [key for key in whole if key.variant in VARIANTS and VARIANTS[key.variant].remembers]
    return Verdict(lead=_lead(whole, tested), memory=_memory(agents, tested), remembers=bool(agents))


def _lead(ranked: Sequence[RowKey], tested: Mapping[RowKey, Sequence[JsonDict]]) -> Lead | None:
    if len(ranked) < 2:
        return None
    found = difference_of(ranked[0], ranked[1], tested)
    return None if found is None else Lead(variant=ranked[0].variant, runner_up=ranked[1].variant, **found)


def _memory(ranked: Sequence[RowKey], tested: Mapping[RowKey, Sequence[JsonDict]]) -> MemoryWorth | None:
    for key in ranked:
        for control in _TELLING:
            found = difference_of(key, key._replace(memory=control), tested)
            if found is not None:
                return MemoryWorth(variant=key.variant, control=control, **found)
    return None
