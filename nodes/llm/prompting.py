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
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from nodes.llm.text.caching import cached_for_short_texts
from nodes.llm.text.tokens import count_tokens
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
    block = _fitted(facts, limit - count_tokens(prompt), rounds_listed)
    return [SystemMessage(prompt), HumanMessage(block)]


def _fitted(facts: Facts, room: int, rounds_listed: int | None) -> str:
    """Return the block of facts that lists as many rounds as `room` has tokens for.

    The time taken is linear in the number of rounds: tokens are counted by line, and a round is a line of its own, so
    each listed round is written and counted once.
    """
    rounds: list[Facts] = facts.get("rounds", [])
    count = len(rounds)
    spare = 0 if rounds_listed is None else max(0, count - rounds_listed)
    first = min(-(-spare // ROUNDS_CUT) * ROUNDS_CUT, count)
    if first == count:
        return render(_summed_up(facts) if count else facts)
    place = list(facts).index("rounds")
    parts = [_part(key, value) for key, value in facts.items() if key != "rounds"]
    columns = list(rounds[-1])

    def block(summary: list[str], rows: list[str]) -> str:
        return _fenced([*parts[:place], *summary, f'"rounds":{_table(columns, rows)}', *parts[place:]])

    # The latest first; beside each, the tokens of a block that lists it and all later ones, without a summary.
    rows = [_row(rounds[-1], columns)]
    tokens = [count_tokens(block([], rows))]
    for one in reversed(rounds[first:-1]):
        if tokens[-1] > room:
            break
        rows.append(_row(one, columns))
        tokens.append(tokens[-1] + count_tokens(f"{rows[-1]},\n"))
    rows.reverse()
    for cut in range(first, count, ROUNDS_CUT):
        listed = count - cut
        if listed > len(tokens) or tokens[listed - 1] > room:
            continue
        # Made a few times at most: it is of bounded length, and each further cut frees the tokens of some rounds.
        summary = _parts(summarize_rounds(rounds[:cut])) if cut else []
        if tokens[listed - 1] + sum(count_tokens(f"{part},\n") for part in summary) <= room:
            return block(summary, rows[-listed:])
    return render(_summed_up(facts))


def _summed_up(facts: Facts) -> Facts:
    """Return the facts with no round listed and the summary of all in their place."""
    summed: Facts = {}
    for key, value in facts.items():
        summed |= summarize_rounds(value) | {"rounds": []} if key == "rounds" else {key: value}
    return summed


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
    return _fenced(_parts(facts))


def _fenced(parts: list[str]) -> str:
    return "```json\n{\n" + ",\n".join(parts) + "\n}\n```"


def _parts(facts: Mapping[str, Any]) -> list[str]:
    return [_part(key, value) for key, value in facts.items()]


def _part(key: str, value: Any) -> str:
    """Return an entry of the block; a list of objects with the same keys becomes a table."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        columns = list(value[0])
        said = _table(columns, [_row(entry, columns) for entry in value])
    else:
        said = _dump(_plain(value))
    return f"{_dump(as_data(key))}:{said}"


def _table(columns: list[str], rows: list[str]) -> str:
    return "[\n" + ",\n".join([_dump(_plain(columns)), *rows]) + "\n]"


def _row(entry: Facts, columns: list[str]) -> str:
    return _dump(_plain([entry[column] for column in columns]))


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


@cached_for_short_texts
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
