"""Answers of a person at a prompt: ratings, comments and commands, as people type them."""

import re

from nodes.lifecycle import MAX_INPUT_TEXT, MAX_WISHES
from nodes.users.person import Answer
from sim.errors import BadInputError
from sim.plain_text import one_line
from sim.world.factor_model import HIGHEST_REWARD, LOWEST_REWARD

EXAMPLES = (
    "type a rating from 1 to 5, such as 4 or `4: lovely`, a sentence such as `no more war`, s to skip, or q to leave"
)
SKIP = frozenset(("s", "skip", "next", "not now"))
LEAVE = frozenset(("q", "quit", "exit", "leave", "stop", "bye"))
SEEN = frozenset(("seen", "seen it", "known", "i have seen it", "i know it"))
NEVER = frozenset(("never", "never this"))
# Words that answer no question which is asked here.
UNCLEAR = frozenset(
    ("yes", "no", "ok", "okay", "sure", "help", "maybe", "perhaps", "hm", "hmm", "dunno", "why", "what")
)
_RATING = re.compile(r"(?P<number>[+-]?\d+(?:[.,]\d+)?)\s*(?:/\s*5|stars?|\*)?", re.IGNORECASE)
# A comma between digits is a decimal comma, as in "4,5".
_NUMBER_FIRST = re.compile(
    rf"{_RATING.pattern}\s*(?:$|(?:[:;–—-]|,(?!\d)|\.(?!\d))\s*(?P<rest>.*)$)", re.IGNORECASE | re.DOTALL
)


def read_answer(line: str) -> Answer:
    """Read a person's answer.

    A number from 1 to 5 is a rating, alone or before a comment: "4", "4,5", "4/5", "4: lovely". The words of `SKIP`,
    `LEAVE`, `SEEN` and `NEVER` are answers too, alone or before a comment after a colon, as in "seen: 4". "profile: …"
    sets the profile. Any other sentence is a comment. A comment or profile alone skips the item.

    Raises:
        BadInputError: The line is none of these; the message gives an example.

    Examples:
        >>> read_answer("4,5: lovely").model_dump(exclude_defaults=True)
        {'rating': 4.5, 'comment': 'lovely'}
        >>> read_answer("too violent").model_dump(exclude_defaults=True)
        {'skip': True, 'comment': 'too violent'}
    """
    line = one_line(line)
    if rated := _NUMBER_FIRST.match(line):
        return Answer(rating=_rating(rated["number"]), comment=_short(rated["rest"] or ""))
    head, _, rest = (part.strip() for part in line.partition(":"))
    word = head.casefold().rstrip(".!")
    if word == "profile" and ":" in line:
        return Answer(skip=True, profile=_short(rest, MAX_WISHES))
    if word in SKIP:
        return Answer(skip=True, comment=_short(rest))
    if word in LEAVE:
        return Answer(leave=True, comment=_short(rest))
    if word in NEVER:
        return Answer(never=True, comment=_short(rest))
    if word in SEEN:
        rated = _NUMBER_FIRST.match(rest)
        if rated is None:
            return Answer(seen=True, comment=_short(rest))
        return Answer(seen=True, rating=_rating(rated["number"]), comment=_short(rated["rest"] or ""))
    if re.match(r"[+-]?[\d.,]+(\s|$)", line):
        raise BadInputError("to rate and comment, put a colon between, as in `4: lovely`; begin a comment with a word")
    if word in UNCLEAR or sum(map(str.isalpha, line)) < 2:
        raise BadInputError(EXAMPLES)
    return Answer(skip=True, comment=_short(line))


def _rating(number: str) -> float:
    rating = float(number.replace(",", "."))
    if not LOWEST_REWARD <= rating <= HIGHEST_REWARD:
        raise BadInputError(f"{number[:20]} is no rating: ratings go from 1 to 5, such as 4 or `4: lovely`")
    return rating


def _short(text: str, most: int = MAX_INPUT_TEXT) -> str:
    if len(text) > most:
        raise BadInputError(
            f"that has {len(text):,} characters, and at most {most:,} can be kept: shorten it, such as `no more war`"
        )
    return text
