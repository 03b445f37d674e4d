"""What a call took: its tokens by the provider's own figures, and their price."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from nodes.llm.endpoint.prices import Price
from nodes.llm.text.tokens import count_tokens
from nodes.state import Usage


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
