"""What calls cost, in US dollars: by a table of the user's own, or by the package genai-prices."""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sim.errors import BadInputError

TABLE = "BILLP_PRICES"
MILLION = 1e6


class Price(BaseModel):
    """Dollars a million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    input: float = Field(ge=0)
    """Of prompts."""
    cached: float | None = Field(None, ge=0)
    """Of prompts that the provider had in its cache; as the others where nothing is said."""
    output: float = Field(ge=0)
    """Of replies."""

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """Return the dollars for a call; `cached_tokens` are among `prompt_tokens`."""
        cached = self.input if self.cached is None else self.cached
        fresh = max(0, prompt_tokens - cached_tokens)
        return (fresh * self.input + cached_tokens * cached + completion_tokens * self.output) / MILLION


_TABLE: TypeAdapter[dict[str, Price]] = TypeAdapter(dict[str, Price])


def price_of(model: str) -> Price | None:
    """Return what a model costs, None where nobody says so.

    The file that BILLP_PRICES names comes first, such as `{"gpt-4o-mini": {"input": 0.15, "cached": 0.075, "output":
    0.6}}`; then what genai-prices knows of OpenAI.

    Args:
        model: `rules`, which costs nothing, `openai:NAME`, or a model of another package, whose price is not known.

    Raises:
        BadInputError: BILLP_PRICES names no table of prices.
    """
    provider, _, name = model.partition(":")
    if provider == "rules":
        return Price(input=0, output=0)
    if provider != "openai":
        return None
    own = _own_table(os.environ.get(TABLE, ""))
    return own[name] if name in own else _published(name)


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
        raise BadInputError(f"{TABLE} names {file}, which is no table of prices: {where} {fault['msg']}") from error


@lru_cache(maxsize=64)
def _published(name: str) -> Price | None:
    # Takes 0.2 s to import, and who uses `rules` needs none.
    from genai_prices import Usage, calc_price

    def dollars(usage: Usage) -> float:
        # For a prompt of our size: some models cost more where prompts are very long.
        return 1_000 * float(calc_price(usage, model_ref=name, provider_id="openai").total_price)

    try:
        return Price(
            input=dollars(Usage(input_tokens=1_000)),
            cached=dollars(Usage(input_tokens=1_000, cache_read_tokens=1_000)),
            output=dollars(Usage(output_tokens=1_000)),
        )
    except LookupError:
        return None
