"""Verdict of a study in two sentences: the variant that is ahead, and whether memory mattered."""

from collections.abc import Mapping, Sequence

from graph.report.schema import UPPER_MARK, Results, Row
from sim.metrics.bootstrap import FEWEST_USERS
from sim.metrics.summary import PairedDifference

# Each memory control, as the end of "against the same agent ...".
_AGAINST: Mapping[str, str] = {
    "prior": "with nothing learned",
    "empty": "with an empty memory",
    "shuffled": "with a shuffled memory",
    "inverted": "with an inverted memory",
}


def verdict_sentences(results: Results) -> list[str]:
    """Return the two sentences of the verdict; none for a run of an earlier version."""
    return [_lead(results), _memory(results)] if "verdict" in results else []


def _lead(results: Results) -> str:
    lead = results["verdict"]["lead"]
    rows = [row for row in results["rows"] if row["memory"] == "full" and row["without"] is None]
    others = " of all but the oracle" if any(row["variant"] == UPPER_MARK for row in rows) else ""
    if lead is None:
        first = _best(rows)
        return f"{first['variant']} collects a total reward of {first['total_reward']:,.1f} a visit; no other compares."
    total = next(row["total_reward"] for row in rows if row["variant"] == lead["variant"])
    if lead["difference"] <= 0:
        return (
            f"No variant is ahead{others}: {lead['variant']} and {lead['runner_up']} both collect a total reward of "
            f"{total:,.1f} a visit."
        )
    return (
        f"{lead['variant']} is ahead{others}: it collects a total reward of {total:,.1f} a visit, "
        f"{abs(lead['difference']):,.1f} more{_interval(lead)} than {lead['runner_up']}, the next best"
        f"{', which may be chance' if _may_be_chance(lead) else ''}."
    )


def _best(rows: Sequence[Row]) -> Row:
    ranked = [row for row in rows if row["variant"] != UPPER_MARK] or rows
    return max(ranked, key=lambda row: row["total_reward"])


def _memory(results: Results) -> str:
    found, settings = results["verdict"]["memory"], results["settings"]
    if not results["verdict"]["remembers"]:
        return "Memory takes no part: no variant of this study has one."
    if found is None:
        if not settings["train"] and not settings["learn_at_test"]:
            return "Memory cannot matter: nothing was learned before these visits (--train 0)."
        return "Whether memory mattered was not measured: run the study with --memory prior."
    what = f"{found['variant']} with its memory collects"
    against = f"than the same agent {_AGAINST[found['control']]} (control {found['control']})"
    size = f"{abs(found['difference']):,.1f} {'more' if found['difference'] >= 0 else 'less'}{_interval(found)}"
    if _may_be_chance(found):
        return f"Whether memory mattered is undecided: {what} {size} {against}, which may be chance."
    return f"Memory {'mattered' if found['difference'] > 0 else 'did harm'}: {what} {size} {against}."


def _interval(found: PairedDifference) -> str:
    if found["ci"] is None:
        return f" (no interval: fewer than {FEWEST_USERS} users)"
    # Turned with its difference, which is shown without its sign.
    low, high = found["ci"] if found["difference"] >= 0 else [-bound for bound in reversed(found["ci"])]
    return f" (95% interval {low:+,.1f} to {high:+,.1f})"


def _may_be_chance(found: PairedDifference) -> bool:
    """Return whether the interval holds 0, or is missing."""
    return found["ci"] is None or found["ci"][0] <= 0 <= found["ci"][1]
