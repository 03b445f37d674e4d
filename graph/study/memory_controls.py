"""Memories changed on purpose, to see whether what is remembered matters: emptied, shuffled, or turned round.

A record has two sides: whose it is, in which situation, and what was done; and what came of it.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np

from memory.records import Record

Control = Literal["full", "empty", "shuffled", "inverted"]

# What a sentence of a lesson asks for, and what its opposite asks for; the first of each pair that fits counts.
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
# What is turned round in a sentence without any of these.
_ELSE = {"never": "always", "not": "indeed", "no": "more", "likes": "should avoid"}
OPPOSITE = "Do the opposite, so never this: "
_SENTENCE = re.compile(r"(?<=[.;!?\n])\s+")


def controlled(records: Iterable[Record], control: Control, seed: int) -> list[Record]:
    """Return records as a control has them, in order of key.

    `full` leaves them as they are, and `empty` leaves none. `shuffled` deals out anew, within each kind, what came of
    what was done, among users and rounds: each tells what came of another one (`shuffled_fields`). `inverted` turns
    round what they say (`inverted_fields`): advantages and values are negated, who left has stayed, and lessons ask
    for the opposite.

    Args:
        records: What was remembered.
        control: How it is changed.
        seed: Decides who gets what when it is shuffled.
    """
    ordered = sorted(records, key=lambda one: one.key)
    if control == "empty":
        return []
    if control == "shuffled":
        by_kind = groupby(sorted(ordered, key=_kind), key=_kind)
        return sorted((one for _, same in by_kind for one in _shuffled(list(same), seed)), key=lambda one: one.key)
    return [_inverted(one) for one in ordered] if control == "inverted" else ordered


def _kind(record: Record) -> str:
    return record.value.kind


def _shuffled(records: Sequence[Record], seed: int) -> list[Record]:
    # Each gets what came of the next in a drawn order, so that none keeps its own.
    order = np.random.default_rng(seed).permutation(len(records))
    return [
        _with(
            records[taker], {name: getattr(records[giver].value, name) for name in records[giver].value.shuffled_fields}
        )
        for taker, giver in zip(order, np.roll(order, -1), strict=True)
    ]


def _inverted(record: Record) -> Record:
    return _with(record, {name: _turned_round(getattr(record.value, name)) for name in record.value.inverted_fields})


def _turned_round(told: Any) -> Any:
    if told is None:
        return None
    if isinstance(told, bool):
        return not told
    # Subtracted, since a negated 0.0 is written as -0.0.
    return opposite(told) if isinstance(told, str) else 0.0 - told


def _with(record: Record, changes: dict[str, object]) -> Record:
    return record.model_copy(update={"value": record.value.model_copy(update=changes)})


def opposite(text: str) -> str:
    """Return advice turned round, sentence by sentence, so that a person, an LLM and `rules` read its opposite.

    In each sentence, bounds and words that ask for something change places with their opposites ("at least 0.6" and "at
    most 0.6", "leave out" and "recommend", …). A sentence without any loses its denial ("never", "not", "no"). What has
    neither is put after `OPPOSITE`.
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
