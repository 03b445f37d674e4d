"""Lessons that count: equal texts merged, without the lessons that later ones replaced.

Nothing is changed when a lesson is replaced: which lessons count is derived from the records at hand. So a replacement
that the asker cannot recall replaces nothing, and deleting a lesson brings back the lessons that it replaced.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from memory.access import is_shared
from memory.chroma.layout import StoredRecord
from memory.records import Lesson, account_space, people_space, private_space, unescape


class StoredLesson(NamedTuple):
    """Lesson with its place in the store."""

    namespace: tuple[str, ...]
    key: str
    lesson: Lesson


class MergedLesson(NamedTuple):
    """Lesson that counts, with all records that it stands for."""

    text: str
    support: int
    """Number of visits that it stands for: those with this text, and those whose lessons it replaced."""
    length: float
    """Mean number of rounds of those visits."""
    records: tuple[StoredLesson, ...]
    """Records with this text."""
    replaced: tuple[StoredLesson, ...]
    """Records that they replaced, directly or through other lessons."""


def stored_by_space(records: Iterable[StoredRecord]) -> tuple[dict[str, list[StoredLesson]], int]:
    """Return all lessons of each space, and the number of records that are not lessons."""
    spaces: dict[str, list[StoredLesson]] = {}
    foreign = 0
    for record in records:
        try:
            lesson = StoredLesson(record.namespace, record.key, Lesson.model_validate(record.value))
        except ValidationError:
            # The record was edited by hand.
            foreign += 1
            continue
        _, space, *_ = (*map(unescape, record.namespace), "", "")
        spaces.setdefault(space, []).append(lesson)
    return spaces, foreign


def merge_lessons(lessons: Iterable[StoredLesson]) -> list[MergedLesson]:
    """Return the lessons that count, those with the most visits first.

    Of lessons that replace each other in a circle, one counts.

    Examples:
        A later visit corrects the lesson of an earlier one:

        >>> def stored(key, text, replaces=()):
        ...     fields = {"visit": key, "user_id": "ann", "situation": "Alien", "length": 9, "total_reward": 36.0}
        ...     return StoredLesson(("lessons", "films", "ann"), key, Lesson(text=text, replaces=replaces, **fields))
        >>> found = merge_lessons([stored("1", "Keep close."), stored("2", "Keep apart.", ["1"])])
        >>> [(one.text, one.support) for one in found]
        [('Keep apart.', 2)]
    """
    # The order decides which lesson of a circle counts.
    known = sorted(lessons, key=lambda one: one[:2])
    stands_for, replaced = _resolve(_targets(known))
    same: dict[str, list[int]] = {}
    for number, one in enumerate(known):
        if not replaced >> number & 1:
            same.setdefault(one.lesson.text, []).append(number)
    found = [_merged(text, numbers, known, stands_for) for text, numbers in same.items()]
    return sorted(found, key=lambda one: (-one.support, -one.length, one.text))


def _merged(
    text: str, numbers: Sequence[int], known: Sequence[StoredLesson], stands_for: Sequence[int]
) -> MergedLesson:
    reached = 0
    for number in numbers:
        reached |= stands_for[number]
    behind = [known[number] for number in _numbers(reached)]
    own = {known[number][:2] for number in numbers}
    return MergedLesson(
        text,
        len({one.lesson.visit for one in behind}),
        sum(one.lesson.length for one in behind) / len(behind),
        tuple(one for one in behind if one[:2] in own),
        tuple(one for one in behind if one[:2] not in own),
    )


def _numbers(bits: int) -> Iterator[int]:
    """Yield the numbers in a set of bits, lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _targets(known: Sequence[StoredLesson]) -> list[list[int]]:
    """Return the numbers of the lessons that each lesson replaces. Keys of unknown lessons replace nothing."""
    numbers: dict[str, list[int]] = {}
    for number, one in enumerate(known):
        numbers.setdefault(one.key, []).append(number)
    return [
        [
            target
            for key in dict.fromkeys(one.lesson.replaces)
            for target in numbers.get(key, ())
            if target != number and may_replace(one.namespace, known[target].namespace)
        ]
        for number, one in enumerate(known)
    ]


def may_replace(writer: tuple[str, ...], target: tuple[str, ...]) -> bool:
    """Return whether the visits that write to a namespace may replace lessons of another: those that they can recall.

    Anybody may write any key. A lesson must not hide one that its writer never saw.
    """
    if writer == target or is_shared(target):
        return True
    (space, user), (of_target, _) = (tuple(map(unescape, one[1:3])) for one in (writer, target))
    if space.startswith(people_space("")):
        return of_target.startswith(account_space(user, ""))
    # Visits recall the private records of their own user alone.
    return not of_target.startswith((people_space(""), private_space(""))) and space in (
        of_target,
        private_space(of_target),
    )


def _resolve(targets: Sequence[Sequence[int]]) -> tuple[list[int], int]:
    """Return the lessons that each lesson stands for, itself included, and all replaced lessons, as sets of bits.

    A replacement that would close a circle is left out. A walk in depth visits each replacement once.
    """
    new, entered, done = range(3)
    marks = [new] * len(targets)
    stands_for = [0] * len(targets)
    replaced = 0
    for start in range(len(targets)):
        stack = [start]
        while stack:
            at = stack[-1]
            if marks[at] == new:
                marks[at] = entered
                stack += [target for target in targets[at] if marks[target] == new]
                continue
            stack.pop()
            if marks[at] == entered:
                marks[at] = done
                stands_for[at] = 1 << at
                # Each other target that is not done was entered before this lesson, and so leads to it.
                for target in targets[at]:
                    if marks[target] == done:
                        stands_for[at] |= stands_for[target]
                        replaced |= 1 << target
    return stands_for, replaced
