"""Prompt of a role: its instructions, then one fenced JSON block of facts, within a budget of tokens.

The first keys of the block hardly change from round to round, so that consecutive prompts share a long prefix and hit a
provider's prefix cache. A list of entries with the same keys becomes a table whose first row names the columns, so that
no key is repeated. Every text from outside is data: it stands in a JSON string, without invisible characters
(`as_data`).
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

# Most rounds listed: Planner, Actor and Critic need the last titles of the state, not the whole visit.
ROUNDS_LISTED = 5
# Number of rounds cut at a time: between two cuts the prompt only grows at its end.
ROUNDS_CUT = 2
# Categories in the summary of the rounds that were cut.
CATEGORIES_SUMMED = 3
_FENCED = re.compile(r"^```json\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
# Start of a tag: of a chat template, a block of thoughts, or markup.
_TAG = re.compile(r"<(?=[A-Za-z/!?|])")


def build_messages(
    prompt: str, facts: Facts, limit: int, rounds_listed: int | None = ROUNDS_LISTED
) -> list[BaseMessage]:
    """Return the messages of one call: the role's instructions and the facts.

    Args:
        prompt: Instructions of the role.
        facts: Facts for the role, JSON values only; `rounds` may be shortened.
        limit: Most tokens of both together. A summary by category replaces the oldest rounds until the prompt fits;
            it replaces all rounds if the rest alone exceeds the limit.
        rounds_listed: Most rounds listed, even if more would fit; None for all that fit.
    """
    block = _fitted(facts, limit - count_tokens(prompt), rounds_listed)
    return [SystemMessage(prompt), HumanMessage(block)]


def _fitted(facts: Facts, room: int, rounds_listed: int | None) -> str:
    """Return the block of facts with as many rounds as fit into `room` tokens.

    Takes time linear in the number of rounds: tokens are counted by line and each round is one line, so each listed
    round is written and counted once.
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

    # Latest row first. `tokens` holds, for each row, the size of a block with it and all later rows, without summary.
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
        # Few summaries are needed: their length is bounded, and each further cut frees the tokens of some rounds.
        summary = _parts(summarize_rounds(rounds[:cut])) if cut else []
        if tokens[listed - 1] + sum(count_tokens(f"{part},\n") for part in summary) <= room:
            return block(summary, rows[-listed:])
    return render(_summed_up(facts))


def _summed_up(facts: Facts) -> Facts:
    """Return the facts with the summary of all rounds in place of the rounds."""
    summed: Facts = {}
    for key, value in facts.items():
        summed |= summarize_rounds(value) | {"rounds": []} if key == "rounds" else {key: value}
    return summed


def summarize_rounds(rounds: list[Facts]) -> Facts:
    """Return the summary of rounds that are not listed: in total, and by category if the rounds have categories."""
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
    """Return the categories with most rounds, and the worst of the others with two rounds: it may be disliked."""
    known: list[Facts] = [
        {"category": name, "rounds": len(seen), "mean_reward": _mean(seen)} for name, seen in rewards.items()
    ]
    known.sort(key=lambda one: (-one["rounds"], one["category"]))
    others = [one for one in known[CATEGORIES_SUMMED:] if one["rounds"] > 1]
    return known[:CATEGORIES_SUMMED] + sorted(others, key=lambda one: one["mean_reward"])[:1]


def _mean(rewards: list[float]) -> float:
    return round(sum(rewards) / len(rewards), 2)


def render(facts: Mapping[str, Any]) -> str:
    """Return the facts as a readable fenced JSON block: one entry or row a line."""
    return _fenced(_parts(facts))


def _fenced(parts: list[str]) -> str:
    return "```json\n{\n" + ",\n".join(parts) + "\n}\n```"


def _parts(facts: Mapping[str, Any]) -> list[str]:
    return [_part(key, value) for key, value in facts.items()]


def _part(key: str, value: Any) -> str:
    """Return one entry of the block; a list of objects with the same keys becomes a table."""
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


# Build the encoder once: `json.dumps` with settings builds one for each call.
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _plain(value: Any) -> Any:
    """Return a JSON value with plain data as texts, and with whole numbers without decimals."""
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
    """Return a text from outside as one line of visible characters.

    Control and format characters (directions, zero widths, invisible tags) are removed, and white space becomes a
    space. Backticks and the `<` of a tag become look-alikes, so that no text in a prompt can pass for a fence or for a
    tag of a chat template.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(sign if sign.isprintable() else " " * sign.isspace() for sign in text)
    return _TAG.sub("‹", " ".join(text.split()).replace("`", "'"))


def read_facts(text: str) -> Facts:
    """Return the facts of a prompt, each table as its list of objects.

    Raises:
        BadInputError: `text` holds no fenced block, or the block holds no JSON object.
    """
    found = _FENCED.search(text)
    try:
        facts = json.loads(found[1]) if found else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise BadInputError("the prompt has no fenced JSON block of facts, which the model `rules` needs")
    return {key: _entries(value) for key, value in facts.items()}


def _entries(value: Any) -> Any:
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return value
    columns, *rows = value
    return [dict(zip(columns, row, strict=True)) for row in rows]
