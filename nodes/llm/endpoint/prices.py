"""Prices of model calls in US dollars: from a table of one's own, or from the package genai-prices."""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sim.errors import BadInputError

TABLE = "BILLP_PRICES"
MILLION = 1e6
# Names of providers in genai-prices, by their names in LangChain.
PUBLISHED = {
    "openai": "openai",
    "anthropic": "anthropic",
    "azure_openai": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google_genai": "google",
    "google_vertexai": "google",
    "groq": "groq",
    "mistralai": "mistral",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
}


class Price(BaseModel):
    """Price of a model in US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    input: float = Field(ge=0)
    """Price of prompt tokens."""
    cached: float | None = Field(None, ge=0)
    """Price of prompt tokens from the provider's cache; as `input` if missing."""
    output: float = Field(ge=0)
    """Price of reply tokens."""

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return the cost of a call in dollars; `prompt_tokens` includes `cached_tokens`."""
        cached = self.input if self.cached is None else self.cached
        fresh = max(0, prompt_tokens - cached_tokens)
        return (fresh * self.input + cached_tokens * cached + completion_tokens * self.output) / MILLION


_TABLE: TypeAdapter[dict[str, Price]] = TypeAdapter(dict[str, Price])


def price_of(model: str) -> Price | None:
    """Return the price of a model; None if unknown.

    The file named by BILLP_PRICES comes first, such as `{"gpt-4o-mini": {"input": 0.15, "cached": 0.075, "output":
    0.6}}`; the prices in genai-prices come second. A key of the file is a model's name, alone or behind its provider.

    Args:
        model: `rules` (costs nothing), or a model behind its provider.

    Raises:
        BadInputError: BILLP_PRICES does not name a valid table of prices.
    """
    provider, _, name = model.partition(":")
    if provider == "rules":
        return Price(input=0, output=0)
    own = _own_table(os.environ.get(TABLE, ""))
    found = own.get(model) or own.get(name)
    if found is not None or provider not in PUBLISHED:
        return found
    return _published(name, PUBLISHED[provider])


@lru_cache(maxsize=4)
def _own_table(file: str) -> dict[str, Price]:
    if not file:
        return {}
    try:
        return _TABLE.validate_json(Path(file).expanduser().read_bytes())
    except OSError as error:
        raise BadInputError(f"{TABLE} names {file}, which cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadInputError(f"{TABLE} names {file}, which is not a table of prices: {where} {fault['msg']}") from error


@lru_cache(maxsize=64)
def _published(name: str, provider: str) -> Price | None:
    # Import late: it takes 0.2 s, and `rules` needs no prices.
    from genai_prices import Usage, calc_price

    def dollars(usage: Usage) -> float:
        # Ask for a prompt of our size, because some models charge more for very long prompts.
        return 1_000 * float(calc_price(usage, model_ref=name, provider_id=provider).total_price)

    try:
        return Price(
            input=dollars(Usage(input_tokens=1_000)),
            cached=dollars(Usage(input_tokens=1_000, cache_read_tokens=1_000)),
            output=dollars(Usage(output_tokens=1_000)),
        )
    except LookupError:
        return None
