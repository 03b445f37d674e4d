"""Usage of model calls: tokens by the provider's own figures, and cost."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel, ConfigDict, Field

from nodes.llm.endpoint.prices import Price
from nodes.llm.text.tokens import count_tokens

# Decimals of a cost in dollars; a token costs some 1e-7.
COST_DIGITS = 12

Count = Annotated[int, Field(ge=0, le=10**15)]


class Usage(BaseModel):
    """Model calls, tokens and cost."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    calls: Count = 0
    """Number of model calls."""
    prompt_tokens: Count = 0
    """Tokens of all prompts."""
    completion_tokens: Count = 0
    """Tokens of all replies."""
    cached_tokens: Count = 0
    """Prompt tokens from the provider's cache; `prompt_tokens` includes them."""
    retries: Count = 0
    """Failed attempts before a call succeeded; `calls` excludes them."""
    cost: float = Field(0.0, ge=0, le=1e12, allow_inf_nan=False)
    """Cost in US dollars of the calls with a known price."""

    @classmethod
    def total(cls, parts: Sequence["Usage"]) -> "Usage":
        """Return the sum of all parts. One object for the whole sum: a visit sums its rounds in every round."""
        return cls(
            calls=sum(one.calls for one in parts),
            prompt_tokens=sum(one.prompt_tokens for one in parts),
            completion_tokens=sum(one.completion_tokens for one in parts),
            cached_tokens=sum(one.cached_tokens for one in parts),
            retries=sum(one.retries for one in parts),
            cost=sum(one.cost for one in parts),
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage.total((self, other))

    def __sub__(self, other: "Usage") -> "Usage":
        # Never below 0: in an edited state the rounds may have a larger usage than the visit.
        return Usage(
            calls=max(0, self.calls - other.calls),
            prompt_tokens=max(0, self.prompt_tokens - other.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens - other.completion_tokens),
            cached_tokens=max(0, self.cached_tokens - other.cached_tokens),
            retries=max(0, self.retries - other.retries),
            cost=max(0.0, round(self.cost - other.cost, COST_DIGITS)),
        )


def usage_of(message: BaseMessage, prompt: Sequence[BaseMessage], price: Price | None = None) -> Usage:
    """Return the usage of the call that gave a message; tokens are counted here if the model did not report them.

    Args:
        message: Reply of the model.
        prompt: Messages of the prompt.
        price: Price of the model; None if unknown.
    """
    reported: Mapping[str, Any] = getattr(message, "usage_metadata", None) or {}
    details: Mapping[str, int] = reported.get("input_token_details") or {}
    prompt_tokens = reported.get("input_tokens") or sum(count_tokens(one.text) for one in prompt)
    completion_tokens = reported.get("output_tokens") or count_tokens(message.text)
    # For some service tiers the provider puts the name of the tier before `cache_read`.
    cached_tokens = sum(count for name, count in details.items() if name.endswith("cache_read"))
    return Usage(
        calls=1,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
        cost=price.cost(prompt_tokens, cached_tokens, completion_tokens) if price else 0.0,
    )
