"""What a call took: its tokens by the provider's own figures, and their price."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel, ConfigDict, Field

from nodes.llm.endpoint.prices import Price
from nodes.llm.text.tokens import count_tokens

# Digits of a dollar; a token costs some 1e-7.
COST_DIGITS = 12

Count = Annotated[int, Field(ge=0, le=10**15)]


class Usage(BaseModel):
    """Model calls and tokens spent."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    calls: Count = 0
    """Number of model calls."""
    prompt_tokens: Count = 0
    """Tokens of all prompts."""
    completion_tokens: Count = 0
    """Tokens of all replies."""
    cached_tokens: Count = 0
    """Tokens of prompts that the provider had in its cache; among `prompt_tokens` too."""
    retries: Count = 0
    """Attempts that failed before a call succeeded; not among `calls`."""
    cost: float = Field(0.0, ge=0, le=1e12, allow_inf_nan=False)
    """US dollars, for calls whose price is known."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            retries=self.retries + other.retries,
            cost=self.cost + other.cost,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        # Never below 0: an edited state may say that rounds took more than the visit.
        return Usage(
            calls=max(0, self.calls - other.calls),
            prompt_tokens=max(0, self.prompt_tokens - other.prompt_tokens),
            completion_tokens=max(0, self.completion_tokens - other.completion_tokens),
            cached_tokens=max(0, self.cached_tokens - other.cached_tokens),
            retries=max(0, self.retries - other.retries),
            cost=max(0.0, round(self.cost - other.cost, COST_DIGITS)),
        )


def usage_of(message: BaseMessage, prompt: Sequence[BaseMessage], price: Price | None = None) -> Usage:
    """Return what the call took that gave a message; tokens are counted here where the model did not report them.

    Args:
        message: The reply.
        prompt: What was asked.
        price: What the model costs, None where nobody knows.
    """
    reported: Mapping[str, Any] = getattr(message, "usage_metadata", None) or {}
    details: Mapping[str, int] = reported.get("input_token_details") or {}
    prompt_tokens = reported.get("input_tokens") or sum(count_tokens(one.text) for one in prompt)
    completion_tokens = reported.get("output_tokens") or count_tokens(message.text)
    # Some providers' tiers put their name before it.
    cached_tokens = sum(count for name, count in details.items() if name.endswith("cache_read"))
    return Usage(
        calls=1,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
        cost=price.cost(prompt_tokens, cached_tokens, completion_tokens) if price else 0.0,
    )
