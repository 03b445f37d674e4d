"""The original's settings, so that what its authors did can be done again."""

from copy import copy
from typing import Any, Literal

from nodes.context import Context, prompt_field
from nodes.llm.prompts import default_prompt


def originally(name: str, value: object) -> Any:
    """Return the field of a setting with the original's value as its default, and all else as it is."""
    field = copy(Context.model_fields[name])
    field.default = value
    return field


class PaperContext(Context):
    """How the original ran a visit; whatever is set goes before its settings."""

    critic_prompt: str = prompt_field("critic", default_prompt("critic_titles"))
    """What the Critic is told, before the facts."""

    experiences_k: int = originally("experiences_k", 1)
    values_k: int = originally("values_k", 1)
    actor_lessons: bool = originally("actor_lessons", True)
    choices: Literal["shortlist", "free"] = originally("choices", "free")
    hints: int = originally("hints", 2)
    outlook: bool = originally("outlook", False)
    grounding: Literal["fresh", "nearest"] = originally("grounding", "nearest")
    critic_titles_only: bool = originally("critic_titles_only", True)
    advantage_rule: Literal["td", "value_difference"] = originally("advantage_rule", "value_difference")
    reward_offset: float = originally("reward_offset", 0.0)
