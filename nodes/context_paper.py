"""Settings of the original: they reproduce the runs of the paper's authors."""

from copy import copy
from typing import Any, Literal

from nodes.context import Context, prompt_field
from nodes.llm.prompts import default_prompt


def paper_default(name: str, value: object) -> Any:
    """Return the field of a setting with the original's value as its default; the rest of the field stays."""
    field = copy(Context.model_fields[name])
    field.default = value
    return field


class PaperContext(Context):
    """Settings of a visit with the original's defaults; a setting given by the caller replaces its default."""

    critic_prompt: str = prompt_field("critic", default_prompt("critic_titles"))
    """Prompt of the Critic; the facts follow it."""

    experiences_k: int = paper_default("experiences_k", 1)
    values_k: int = paper_default("values_k", 1)
    actor_lessons: bool = paper_default("actor_lessons", True)
    choices: Literal["shortlist", "free"] = paper_default("choices", "free")
    hints: int = paper_default("hints", 2)
    pairs: bool = paper_default("pairs", False)
    evidence: bool = paper_default("evidence", False)
    outlook: bool = paper_default("outlook", False)
    grounding: Literal["fresh", "nearest"] = paper_default("grounding", "nearest")
    critic_titles_only: bool = paper_default("critic_titles_only", True)
    advantage_rule: Literal["td", "value_difference"] = paper_default("advantage_rule", "value_difference")
    reward_offset: float = paper_default("reward_offset", 0.0)
