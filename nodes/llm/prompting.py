"""Build a prompt: the role's words, then one fenced JSON block of facts, within a budget of tokens.

The keys of the block stand in an order in which the early ones hardly change from round to round, so that consecutive
prompts share a long prefix and a provider's prefix cache hits. Whatever comes from outside stands in JSON strings: it
cannot break out of the fence, since JSON writes a line break within a string as two characters.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from nodes.llm.tokens import count_tokens
from sim.errors import BadInputError

Facts = dict[str, Any]

# Rounds leave the prompt this many at a time: between two cuts the prompt only grows at its end.
ROUNDS_CUT = 8
_FENCED = re.compile(r"^```json\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def build_messages(prompt: str, facts: Facts, limit: int) -> list[BaseMessage]:
    """Return the messages of one call: the role's words and the facts.

    Args:
        prompt: The role's words.
        facts: What the role is told, JSON values only; `rounds` may be shortened.
        limit: Most tokens of both. The oldest rounds are replaced by a summary by category until it is kept; where
            the rest alone is larger, all rounds are.
    """
    room = limit - count_tokens(prompt)
    rounds = facts.get("rounds", [])
    for cut in range(0, len(rounds) + ROUNDS_CUT, ROUNDS_CUT):
        block = render(facts if cut == 0 else _shortened(facts, min(cut, len(rounds))))
        if count_tokens(block) <= room:
            break
    return [SystemMessage(prompt), HumanMessage(block)]


def _shortened(facts: Facts, cut: int) -> Facts:
    summary = summarize_rounds(facts["rounds"][:cut])
    shortened: Facts = {}
    for key, value in facts.items():
        if key == "rounds":
            shortened |= {"earlier": summary, "rounds": value[cut:]}
        else:
            shortened[key] = value
    return shortened


def summarize_rounds(rounds: list[Facts]) -> Facts:
    """Return the number of rounds and, for each category, how many rounds it had and their mean reward."""
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for one in rounds:
        for genre in one["genres"]:
            rewards[genre].append(one["reward"])
    most = sorted(rewards.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return {
        "rounds": len(rounds),
        "categories": {
            genre: {"rounds": len(seen), "mean_reward": round(sum(seen) / len(seen), 2)} for genre, seen in most
        },
    }


def render(facts: Mapping[str, Any]) -> str:
    """Return the facts as a fenced JSON block with one entry a line, so that a person can read it."""
    parts = [f"{_dump(key)}: {_block(value)}" for key, value in facts.items()]
    return "```json\n{\n" + ",\n".join(parts) + "\n}\n```"


def _block(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f" {_dump(entry)}" for entry in value) + "\n]"
    return _dump(value)


# Made once: `json.dumps` makes an encoder for each call that has settings of its own.
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def read_facts(text: str) -> Facts:
    """Return the facts of a prompt.

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
    return facts
