"""Ablation: the parts of the agent, the setting that switches each off, and the worth of a part."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from nodes.context import Context
from sim.errors import BadInputError
from sim.metrics.summary import PairedDifference

Part = Literal[
    "lessons", "experiences", "pairs", "evidence", "values", "shortlist", "outlook", "freshness", "categories"
]
PARTS: tuple[Part, ...] = get_args(Part)
# The variant that has all parts.
WHOLE = "billp_outlook"
# Explanation printed beside the measured worth of the parts.
MEANING = (
    "Total reward of billp_outlook, which has all parts, less that of the same agent trained and visited without the "
    "part, paired by user. An interval that holds 0 decides nothing. Parts can stand in for each other, so what they "
    "are worth does not add up."
)
_OFF: Mapping[Part, Mapping[str, Any]] = {
    "lessons": {"lessons_k": 0},
    # All that is told of single rounds: the experiences themselves, and what is derived from them.
    "experiences": {"experiences_k": 0, "pairs": False, "evidence": False},
    "pairs": {"pairs": False},
    "evidence": {"evidence": False},
    "values": {"values_k": 0},
    "shortlist": {"choices": "free"},
    "outlook": {"outlook": False},
    "freshness": {"grounding": "nearest"},
    "categories": {"category_tool": False},
}


def without_part(context: Context, part: Part | None) -> Context:
    """Return the settings with a part switched off; unchanged for None."""
    return context if part is None else context.model_copy(update=dict(_OFF[part]))


def setting_of(part: Part) -> str:
    """Return the assignments that switch a part off, each in the form of `--set`."""
    return " ".join(_assigned(name, value) for name, value in _OFF[part].items())


def _assigned(name: str, value: object) -> str:
    return f"{name}={str(value).lower()}"


def named(variant: str, part: Part | None) -> str:
    """Return the display name of a variant, with the part that is switched off, if any."""
    return variant if part is None else f"{variant} without {part}"


def part_worth(minus_full: PairedDifference) -> tuple[float, list[float] | None]:
    """Return the worth of a part with its interval, if any: the reward gained by having the part.

    Args:
        minus_full: Reward of the agent without the part minus the reward of the whole agent.
    """
    # Subtract from 0, because negating 0.0 would give -0.0.
    interval = minus_full["ci"] and [0.0 - bound for bound in reversed(minus_full["ci"])]
    return 0.0 - minus_full["difference"], interval


def check_whole(context: Context) -> None:
    """Check that every part can be measured by switching it off.

    Raises:
        BadInputError: A part is already off, or memory is not shared, so that users have nothing to recall.
    """
    settings = {name: (value, part) for part in reversed(PARTS) for name, value in _OFF[part].items()}
    off = {name: (value, part) for name, (value, part) in settings.items() if getattr(context, name) == value}
    if off:
        sets = ", ".join(_assigned(name, value) for name, (value, _) in off.items())
        parts = ", ".join(dict.fromkeys(part for _, part in off.values()))
        raise BadInputError(f"--set {sets}: --ablate switches off {parts} itself: leave out one of the two")
    if not context.share_memory:
        # The users of the comparison visit for the first time and have no memories of their own.
        raise BadInputError(
            "--set share_memory=false leaves nothing to recall, so --ablate cannot measure the worth of memories: "
            "leave out one of the two"
        )
