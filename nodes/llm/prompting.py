"""Build a prompt: the role's words, then one fenced JSON block of facts, within a budget of tokens.

The keys of the block stand in an order in which the early ones hardly change from round to round, so that consecutive
prompts share a long prefix and a provider's prefix cache hits. Lists of like entries are written as tables, whose first
row names the columns, so that no key is repeated. Whatever comes from outside is data: it stands in JSON strings, and
without the characters that only machines see (`as_data`).
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from nodes.llm.tokens import count_tokens
from sim.errors import BadInputError

Facts = dict[str, Any]

# Rounds listed at most; the Planner, the Actor and the Critic need the state's last titles, not the whole visit.
ROUNDS_LISTED = 7
# Rounds leave the prompt this many at a time: between two cuts the prompt only grows at its end.
ROUNDS_CUT = 4
# Categories by which the rounds that left are summed up.
CATEGORIES_SUMMED = 4
_FENCED = re.compile(r"^```json\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
# What opens a tag: of a chat template, of a block of thoughts, of markup.
_TAG = re.compile(r"<(?=[A-Za-z/!?|])")


def build_messages(
    prompt: str, facts: Facts, limit: int, rounds_listed: int | None = ROUNDS_LISTED
) -> list[BaseMessage]:
    """Return the messages of one call: the role's words and the facts.

    Args:
        prompt: The role's words.
        facts: What the role is told, JSON values only; `rounds` may be shortened.
        limit: Most tokens of both. The oldest rounds are replaced by a summary by category until it is kept; where
            the rest alone is larger, all rounds are.
        rounds_listed: Most rounds that are listed even where more would fit; None for all that fit.
    """
    room = limit - count_tokens(prompt)
    count = len(facts.get("rounds", []))
    spare = 0 if rounds_listed is None else max(0, count - rounds_listed)
    for cut in range(-(-spare // ROUNDS_CUT) * ROUNDS_CUT, count + ROUNDS_CUT, ROUNDS_CUT):
        block = render(facts if cut == 0 else _shortened(facts, min(cut, count)))
        if count_tokens(block) <= room:
            break
    return [SystemMessage(prompt), HumanMessage(block)]


def _shortened(facts: Facts, cut: int) -> Facts:
    summary = summarize_rounds(facts["rounds"][:cut])
    shortened: Facts = {}
    for key, value in facts.items():
        if key == "rounds":
            shortened |= summary | {"rounds": value[cut:]}
        else:
            shortened[key] = value
    return shortened


def summarize_rounds(rounds: list[Facts]) -> Facts:
    """Return what stands for rounds that are not listed: in all, and by category where the role is told categories."""
    whole: Facts = {"rounds": len(rounds)}
    if "reward" in rounds[0]:
        whole["mean_reward"] = _mean([one["reward"] for one in rounds])
    summary: Facts = {"earlier": whole}
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for one in rounds:
        for genre in one.get("genres", []):
            rewards[genre].append(one["reward"])
    if rewards:
        summary["earlier_categories"] = _categories(rewards)
    return summary


def _categories(rewards: Mapping[str, list[float]]) -> list[Facts]:
    """Return the categories with most rounds, and the worst of the others that had two: it may be disliked."""
    known: list[Facts] = [
        {"category": name, "rounds": len(seen), "mean_reward": _mean(seen)} for name, seen in rewards.items()
    ]
    known.sort(key=lambda one: (-one["rounds"], one["category"]))
    others = [one for one in known[CATEGORIES_SUMMED:] if one["rounds"] > 1]
    return known[:CATEGORIES_SUMMED] + sorted(others, key=lambda one: one["mean_reward"])[:1]


def _mean(rewards: list[float]) -> float:
    return round(sum(rewards) / len(rewards), 2)


def render(facts: Mapping[str, Any]) -> str:
    """Return the facts as a fenced JSON block that a person can read: one entry or row a line."""
    parts = [f"{_dump(as_data(key))}:{_block(value)}" for key, value in facts.items()]
    return "```json\n{\n" + ",\n".join(parts) + "\n}\n```"


def _block(value: Any) -> str:
    """Return a value as JSON; a list of objects with the same keys becomes a table."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return _dump(_plain(value))
    columns = list(value[0])
    rows = [columns, *([entry[column] for column in columns] for entry in value)]
    return "[\n" + ",\n".join(_dump(_plain(row)) for row in rows) + "\n]"


# Made once: `json.dumps` makes an encoder for each call that has settings of its own.
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _plain(value: Any) -> Any:
    """Return a JSON value whose texts are plain data, and whose whole numbers have no decimals."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return as_data(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {as_data(key): _plain(entry) for key, entry in value.items()}
    return value


@lru_cache(maxsize=50_000)
def as_data(text: str) -> str:
    """Return a text from outside as one line that holds only what a person can see.

    Control and format characters (directions, zero widths, invisible tags) go; white space becomes a space; backticks
    and the `<` of tags become look-alikes, so that nothing in a prompt looks like a fence or a chat template's own tag.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(sign if sign.isprintable() else " " * sign.isspace() for sign in text)
    return _TAG.sub("‹", " ".join(text.split()).replace("`", "'"))


def read_facts(text: str) -> Facts:
    """Return the facts of a prompt, each table as the list of objects that it stands for.

    Raises:
        BadInputError: `text` holds no fenced block, or no JSON object in it.
    """
    found = _FENCED.search(text)
    try:
        facts = json.loads(found[1]) if found else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise BadInputError("the prompt holds no fenced JSON block of facts, which the model `rules` reads")
    return {key: _entries(value) for key, value in facts.items()}


def _entries(value: Any) -> Any:
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return value
    columns, *rows = value
    return [dict(zip(columns, row, strict=True)) for row in rows]
