"""Endpoint of `openai:NAME`: address, key and limits, from environment variables only."""

import os
from base64 import b64encode
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from nodes.llm.endpoint.budget import Budget
from nodes.llm.endpoint.rate_limit import Pace
from sim.errors import BadInputError, BillpError

VARIABLES: Final = {
    "address": "OPENAI_BASE_URL",
    "key": "OPENAI_API_KEY",
    "call_seconds": "BILLP_CALL_SECONDS",
    "attempts": "BILLP_CALL_ATTEMPTS",
    "visit_retries": "BILLP_VISIT_RETRIES",
    "first_wait": "BILLP_FIRST_WAIT",
    "longest_wait": "BILLP_LONGEST_WAIT",
    "requests_a_minute": "BILLP_REQUESTS_PER_MINUTE",
    "tokens_a_minute": "BILLP_TOKENS_PER_MINUTE",
    "reply_tokens": "BILLP_REPLY_TOKENS",
}


class EndpointError(BillpError):
    """Raised if the endpoint of a model stops a visit; the visit can resume from its last checkpoint."""


class RefusedVisitError(EndpointError):
    """Raised if the endpoint refuses a prompt of this visit, or failed the visit too often; others may succeed."""


class EndpointSettings(BaseModel):
    """Settings of an endpoint; docs/endpoints.md explains each of them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    address: SecretStr = SecretStr("")
    """Base URL; may hold a name and password for the server; empty for OpenAI's own address."""
    key: SecretStr = SecretStr("")
    call_seconds: float = Field(120, gt=0)
    """Seconds until an attempt is cancelled, even if its reply is still arriving."""
    attempts: int = Field(10, ge=1, le=1000)
    """Most attempts of one call."""
    visit_retries: int = Field(200, ge=0)
    """Most failed attempts of a whole visit."""
    first_wait: float = Field(0.5, ge=0)
    """Seconds to wait after the first failed attempt; each further failure doubles them."""
    longest_wait: float = Field(60, ge=0)
    """Most seconds between two attempts."""
    requests_a_minute: float | None = Field(None, gt=0)
    tokens_a_minute: float | None = Field(None, gt=0)
    """Most tokens of prompts and replies together."""
    reply_tokens: int = Field(2_000, ge=1)
    """Most tokens of a reply under a budget; this bounds the cost of a call before it is sent."""

    @property
    def parts(self) -> SplitResult:
        """Return the parts of the address."""
        return urlsplit(self.address.get_secret_value())

    @property
    def clean_address(self) -> str | None:
        """Return the address without name and password, because clients log it; None for OpenAI's own address."""
        parts = self.parts
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() or None

    @property
    def login(self) -> tuple[str, str] | None:
        """Return the name and password in the address; None if missing."""
        parts = self.parts
        if "@" not in parts.netloc:
            return None
        return unquote(parts.username or ""), unquote(parts.password or "")

    def secrets(self) -> list[str]:
        """Return every text that no message may hold, longest first."""
        parts = self.parts
        name, password = self.login or ("", "")
        # The login in the encoding of the request, because a server may repeat a request in its reply.
        sent = b64encode(f"{name}:{password}".encode()).decode() if self.login else ""
        found = {self.key.get_secret_value(), password, parts.password or "", sent} - {""}
        where = {self.address.get_secret_value(), self.clean_address or "", parts.netloc.rpartition("@")[2]}
        # Skip short names and hosts, because many words contain them.
        found |= {text for text in (*where, parts.hostname or "", name, parts.username or "") if len(text) > 3}
        return sorted(found, key=lambda text: (-len(text), text))


class Endpoint:
    """Endpoint with its state, shared by all calls of this process."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self.requests = Pace(settings.requests_a_minute)
        self.tokens = Pace(settings.tokens_a_minute)
        self.answered = False
        """Whether the endpoint ever answered; if not, its address is more likely wrong than the server busy."""
        self.refused: set[tuple[str, str]] = set()
        """Pairs of a model and a parameter that the server refuses for it."""
        self.budget: Budget | None = None
        """Budget of all calls together; None without a limit."""
        self._secrets = settings.secrets()

    def without_secrets(self, text: str) -> str:
        """Return a text from outside as one short line without key, address, name and password."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())[:300]


@lru_cache(maxsize=1)
def shared_endpoint() -> Endpoint:
    """Return the endpoint of this process; the first call must not come from two threads at once.

    Raises:
        BadInputError: A variable is invalid, or neither address nor key is set.
    """
    # An empty value in `.env` means "not set".
    given: dict[str, Any] = {name: os.environ[env] for name, env in VARIABLES.items() if os.environ.get(env)}
    try:
        settings = EndpointSettings.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise BadInputError(f"{VARIABLES[str(fault['loc'][0])]}: {fault['msg']} (.env.example)") from None
    if "address" not in given and "key" not in given:
        raise BadInputError("an LLM needs OPENAI_API_KEY or OPENAI_BASE_URL in the environment (.env.example)")
    parts = settings.parts
    if "address" in given and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise BadInputError("OPENAI_BASE_URL is not an address: write it like http://127.0.0.1:8080/v1 (.env.example)")
    if parts.query or parts.fragment:
        raise BadInputError("OPENAI_BASE_URL must not contain `?` or `#`: a key in it would be logged (.env.example)")
    return Endpoint(settings)
