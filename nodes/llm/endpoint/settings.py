"""The endpoint behind `openai:NAME`: its address, key and limits, which come from the environment alone."""

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
    """Raised where a visit cannot go on because of its model's endpoint; it can be resumed from its last checkpoint."""


class RefusedVisitError(EndpointError):
    """Raised where the endpoint does not take what this visit asks, or failed it too often; others may do well."""


class EndpointSettings(BaseModel):
    """What is known of an endpoint; docs/endpoints.md says what each setting is for."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    address: SecretStr = SecretStr("")
    """Base URL; may hold a name and password for the server; OpenAI's own where it is empty."""
    key: SecretStr = SecretStr("")
    call_seconds: float = Field(120, gt=0)
    """Until an attempt is given up, however slowly its reply still trickles in."""
    attempts: int = Field(10, ge=1, le=1000)
    """Most attempts of one call."""
    visit_retries: int = Field(200, ge=0)
    """Most failed attempts of a whole visit."""
    first_wait: float = Field(0.5, ge=0)
    """Seconds after the first failed attempt; they double with each further one."""
    longest_wait: float = Field(60, ge=0)
    """Most seconds between two attempts."""
    requests_a_minute: float | None = Field(None, gt=0)
    tokens_a_minute: float | None = Field(None, gt=0)
    """Prompts and replies together."""
    reply_tokens: int = Field(2_000, ge=1)
    """Most tokens of a reply where there is a budget: what a call may cost is known beforehand by it."""

    @property
    def parts(self) -> SplitResult:
        """Return the address in its parts."""
        return urlsplit(self.address.get_secret_value())

    @property
    def clean_address(self) -> str | None:
        """Return the address without name and password, which clients would log; None for OpenAI's own."""
        parts = self.parts
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() or None

    @property
    def login(self) -> tuple[str, str] | None:
        """Return the name and password that the address holds."""
        parts = self.parts
        if "@" not in parts.netloc:
            return None
        return unquote(parts.username or ""), unquote(parts.password or "")

    def secrets(self) -> list[str]:
        """Return every text that must not come out, the longest first."""
        parts = self.parts
        name, password = self.login or ("", "")
        # As it is sent, since a server may repeat what it was sent.
        sent = b64encode(f"{name}:{password}".encode()).decode() if self.login else ""
        found = {self.key.get_secret_value(), password, parts.password or "", sent} - {""}
        where = {self.address.get_secret_value(), self.clean_address or "", parts.netloc.rpartition("@")[2]}
        # A short name or host is part of many a word.
        found |= {text for text in (*where, parts.hostname or "", name, parts.username or "") if len(text) > 3}
        return sorted(found, key=lambda text: (-len(text), text))


class Endpoint:
    """What all calls of this process share."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self.requests = Pace(settings.requests_a_minute)
        self.tokens = Pace(settings.tokens_a_minute)
        self.answered = False
        """Whether it has ever answered; one that never has is more likely misnamed than busy."""
        self.refused: set[tuple[str, str]] = set()
        """Models with the parameters that the server does not take for them."""
        self.budget: Budget | None = None
        """What calls may cost together, where that is limited."""
        self._secrets = settings.secrets()

    def without_secrets(self, text: str) -> str:
        """Return a text from outside as one short line without key, address, name and password."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())[:300]


@lru_cache(maxsize=1)
def shared_endpoint() -> Endpoint:
    """Return the endpoint of this process; not to be called for the first time by two threads at once.

    Raises:
        BadInputError: A variable cannot be used, or neither address nor key is set.
    """
    # An empty line in `.env` stands for "not set".
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
        raise BadInputError("OPENAI_BASE_URL is no address: it looks like http://127.0.0.1:8080/v1 (.env.example)")
    if parts.query or parts.fragment:
        raise BadInputError("OPENAI_BASE_URL must end with its path: a key after a `?` would be logged (.env.example)")
    return Endpoint(settings)
