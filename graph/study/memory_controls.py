"""Memory controls: emptied, shuffled or inverted memories, and models at their prior, to measure what was learned.

A record has two sides: the user, situation and action, and the outcome.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np

from memory.records import Lesson, Memory, Record

Control = Literal["full", "prior", "empty", "shuffled", "inverted"]

PRIOR: Control = "prior"
NEVER_LEARN: tuple[Control, ...] = ("empty", PRIOR)
"""Controls of an agent without memory, which neither recalls nor learns."""
# Settings of the roles that a control changes: each learned model stays at its prior.
CONTROL_SETTINGS: Mapping[Control, Mapping[str, Any]] = {PRIOR: {"leave_risk": "prior"}}
# Words that ask for something, with the opposite request; in each pair, the first that matches counts.
_ASKS = {
    "at least": "at most",
    "at most": "at least",
    "leave out": "recommend",
    "leaves out": "recommends",
    "avoid": "recommend",
    "skip": "show",
    "drop": "add",
    "without": "with",
    "less": "more",
    "fewer": "more",
    "leave": "stay",
    "recommend": "leave out",
    "mix": "leave out",
    "prefer": "avoid",
    "show": "skip",
    "add": "drop",
    "include": "leave out",
    "want": "avoid",
    "with": "without",
    "more": "fewer",
}
# Replacements for a sentence without any of these words.
_ELSE = {"never": "always", "not": "indeed", "no": "more", "likes": "should avoid"}
OPPOSITE = "Do the opposite, so never this: "
_SENTENCE = re.compile(r"(?<=[.;!?\n])\s+")


def controlled(records: Iterable[Record], control: Control, seed: int) -> list[Record]:
    """Return the records that a control leaves or changes, in order of key.

    `full` returns them unchanged, `empty` and `prior` return none. `shuffled` permutes the outcomes (`shuffled_fields`)
    among users and rounds within each kind, so that each record has the outcome of another record. `inverted` turns the
    outcomes (`inverted_fields`) into their opposites: advantages and values are negated, a user who left has stayed,
    and lessons ask for the opposite.

    Args:
        records: Records of a memory.
        control: Name of the control.
        seed: Seed of the permutation.
    """
    ordered = sorted(records, key=lambda one: one.key)
    if control in NEVER_LEARN:
        return []
    if control == "shuffled":
        by_kind = groupby(sorted(ordered, key=_kind), key=_kind)
        return sorted((one for _, same in by_kind for one in _shuffled(list(same), seed)), key=lambda one: one.key)
    return [_inverted(one) for one in ordered] if control == "inverted" else ordered


def _kind(record: Record) -> str:
    return record.value.kind


def _shuffled(records: Sequence[Record], seed: int) -> list[Record]:
    # Each record takes the outcome of the next one in a random order, so that no record keeps its own.
    order = np.random.default_rng(seed).permutation(len(records))
    moves = [(records[taker], records[giver]) for taker, giver in zip(order, np.roll(order, -1), strict=True)]
    moved = {giver.key: taker.key for taker, giver in moves}
    return [_with(taker, _outcome(giver.value, moved)) for taker, giver in moves]


def _outcome(value: Memory, moved: Mapping[str, str]) -> dict[str, Any]:
    """Return the outcome of a record; a lesson still replaces the same texts, which have moved to other keys."""
    outcome = {name: getattr(value, name) for name in value.shuffled_fields}
    if isinstance(value, Lesson):
        outcome["replaces"] = [moved.get(key, key) for key in value.replaces]
    return outcome


def _inverted(record: Record) -> Record:
    return _with(record, {name: _inverse(getattr(record.value, name)) for name in record.value.inverted_fields})


def _inverse(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool):
        return not value
    # Subtract from 0, because negating 0.0 would write -0.0.
    return opposite(value) if isinstance(value, str) else 0.0 - value


def _with(record: Record, changes: dict[str, object]) -> Record:
    return record.model_copy(update={"value": record.value.model_copy(update=changes)})


def opposite(text: str) -> str:
    """Return advice inverted sentence by sentence; people, LLMs and `rules` all read the opposite.

    In each sentence, bounds and words that ask for something are replaced by their opposites ("at least 0.6" by "at
    most 0.6", "leave out" by "recommend", …). A sentence without such words loses its negation ("never", "not", "no").
    A sentence without either is put after `OPPOSITE`.
    """
    return " ".join(_opposite_sentence(one) for one in _SENTENCE.split(text.strip()))


def _opposite_sentence(sentence: str) -> str:
    for words in (_ASKS, _ELSE):
        turned = _turned(sentence, words)
        if turned != sentence:
            return turned
    return OPPOSITE + sentence


def _turned(sentence: str, words: dict[str, str]) -> str:
    def turn(found: re.Match[str]) -> str:
        other = words[found[0].casefold()]
        return other[0].upper() + other[1:] if found[0][0].isupper() else other

    # Longest first, so that "leave out" wins over "leave".
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return re.sub(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", turn, sentence, flags=re.IGNORECASE)
