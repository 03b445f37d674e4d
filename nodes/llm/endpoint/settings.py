"""Endpoints: limits of any, and address and key of `openai:NAME`, from environment variables only."""

import importlib.util
import os
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from nodes.llm.endpoint.budget import Budget, shared_budget
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
# Only printable ASCII can stand in a header; a text that was copied may hold more.
UNSENDABLE_KEY: Final = (
    "it holds a space, a line break or a letter outside ASCII, such as a curly quote, so no request can carry it: "
    "copy the key again"
)
UNUSABLE_ADDRESS: Final = (
    "it is no address, or its port is no number from 1 to 65535: write it like http://127.0.0.1:8080/v1"
)
LOGGED_ADDRESS: Final = "it must not contain `?` or `#`, because a key in it would be logged: leave that part out"
# Other variables that OpenAI's client puts into headers.
ORGANISATION: Final = ("OPENAI_ORG_ID", "OPENAI_ORGANIZATION", "OPENAI_PROJECT_ID")
# Variables of the proxies and certificates that the clients of all providers read.
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_PROXY")
CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
# Shorter names and hosts are not hidden, because many words contain them.
SHORTEST_HIDDEN: Final = 4


class EndpointError(BillpError):
    """Raised if the endpoint of a model stops a visit; the visit can resume from its last checkpoint."""


class RefusedVisitError(EndpointError):
    """Raised if the endpoint refuses a prompt of this visit, or failed the visit too often; others may succeed."""


def can_be_sent(text: str) -> bool:
    """Return whether a text can stand in a header, as a key does."""
    return text.isascii() and text.isprintable() and " " not in text


class CallLimits(BaseModel):
    """Limits of the calls to an endpoint; docs/endpoints.md explains each of them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

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


class EndpointSettings(CallLimits):
    """Settings of `openai:NAME`: the limits, and where the calls go."""

    address: SecretStr = SecretStr("")
    """Base URL; may hold a name and password for the server; empty for OpenAI's own address."""
    key: SecretStr = SecretStr("")

    @field_validator("key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr) -> SecretStr:
        if not can_be_sent(key.get_secret_value()):
            raise PydanticCustomError("key", "{words}", {"words": UNSENDABLE_KEY})
        return key

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: SecretStr) -> SecretStr:
        text = address.get_secret_value()
        if not text:
            return address
        try:
            httpx.URL(text)
            parts = urlsplit(text)
            # Reading the port checks it.
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise PydanticCustomError("address", "{words}", {"words": UNUSABLE_ADDRESS})
        if parts.query or parts.fragment:
            raise PydanticCustomError("address", "{words}", {"words": LOGGED_ADDRESS})
        return address

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
        names = (*where, parts.hostname or "", name, parts.username or "")
        found |= {text for text in names if len(text) >= SHORTEST_HIDDEN}
        return sorted(found, key=lambda text: (-len(text), text))


class Endpoint:
    """Endpoint with its state, shared by all calls of this process.

    Args:
        limits: Limits of the calls.
        secrets: Every text that no message may hold.
        remedy: What a user should check if the endpoint refuses a call.
    """

    def __init__(self, limits: CallLimits, secrets: Iterable[str], remedy: str) -> None:
        self.limits = limits
        self.remedy = remedy
        self.requests = Pace(limits.requests_a_minute)
        self.tokens = Pace(limits.tokens_a_minute)
        self.answered = False
        """Whether the endpoint ever answered; if not, its address is more likely wrong than the server busy."""
        self.refused: set[tuple[str, str]] = set()
        """Pairs of a model and a parameter that the server refuses for it."""
        self.taken: set[tuple[str, str]] = set()
        """Pairs of a model and a parameter that the server has taken."""
        self._secrets = sorted({*secrets} - {""}, key=lambda text: (-len(text), text))

    @property
    def budget(self) -> Budget | None:
        """Budget of all calls of this process together; None without a limit."""
        return shared_budget()

    def without_secrets(self, text: str) -> str:
        """Return a text from outside as one short line without key, address, name and password."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())[:300]


Settings = TypeVar("Settings", bound=CallLimits)


def from_environment(kind: type[Settings]) -> Settings:
    """Return the settings of a class, from the variables of their fields.

    Raises:
        BadInputError: A variable is invalid.
    """
    # An empty value in `.env` means "not set".
    given = {name: os.environ[VARIABLES[name]] for name in kind.model_fields if os.environ.get(VARIABLES[name])}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise BadInputError(f"{VARIABLES[str(fault['loc'][0])]}: {fault['msg']} (.env.example)") from None


def endpoint_settings() -> EndpointSettings:
    """Return the settings of `openai:NAME`.

    Raises:
        BadInputError: A variable is invalid, or neither address nor key is set.
    """
    settings = from_environment(EndpointSettings)
    if not settings.address.get_secret_value() and not settings.key.get_secret_value():
        raise BadInputError("an LLM needs OPENAI_API_KEY or OPENAI_BASE_URL in the environment (.env.example)")
    for name in ORGANISATION:
        if not can_be_sent(os.environ.get(name, "")):
            raise BadInputError(f"{name}: {UNSENDABLE_KEY} (.env.example)")
    return settings


def proxies() -> dict[str, str]:
    """Return the proxies in the environment, by the variable that names each, in capitals or small letters.

    An address without a scheme is one of HTTP, as for the clients.
    """
    found = {name: os.environ.get(name, "") for one in PROXIES for name in (one, one.lower())}
    return {name: address if "://" in address else f"http://{address}" for name, address in found.items() if address}


def proxy_secrets() -> set[str]:
    """Return the passwords in the addresses of the proxies."""
    written = {urlsplit(address).password or "" for address in proxies().values()}
    return (written | {unquote(password) for password in written}) - {""}


def check_network() -> None:
    """Check the variables of proxies and certificates, which the clients would refuse without naming them.

    Raises:
        BadInputError: A proxy cannot be used, or a file of certificates is missing.
    """
    for name, address in proxies().items():
        scheme = address.partition("://")[0].lower()
        if scheme not in PROXY_SCHEMES:
            raise BadInputError(f"{name} names no proxy: write it like http://127.0.0.1:3128, or unset it")
        if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise BadInputError(
                f"{name} names a SOCKS proxy, which needs a package: `pip install socksio`, or unset {name}"
            )
        try:
            httpx.URL(address)
        except (ValueError, httpx.InvalidURL):
            raise BadInputError(f"{name} names no proxy: write it like http://127.0.0.1:3128, or unset it") from None
    for name in CERTIFICATES:
        path = os.environ.get(name)
        if path and not _certificates_exist(name, path):
            raise BadInputError(f"{name} names {path}, which does not exist: correct or unset {name}")


def _certificates_exist(variable: str, path: str) -> bool:
    if variable == "SSL_CERT_FILE":
        return Path(path).is_file()
    # OpenSSL takes a list of folders, and passes over those that do not exist.
    return any(Path(folder).is_dir() for folder in path.split(os.pathsep) if folder)


@lru_cache(maxsize=1)
def shared_endpoint() -> Endpoint:
    """Return the endpoint of `openai:NAME` in this process; the first call must not come from two threads at once.

    Raises:
        BadInputError: A variable is invalid, or neither address nor key is set.
    """
    settings = endpoint_settings()
    remedy = "check OPENAI_BASE_URL, OPENAI_API_KEY and the model's name"
    return Endpoint(settings, [*settings.secrets(), *proxy_secrets()], remedy)
