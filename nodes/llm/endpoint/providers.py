"""Providers of LangChain: a chat model by `init_chat_model`, with the options that its provider offers."""

import asyncio
import os
import re
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding
from pydantic import BaseModel, SecretStr

from nodes.llm.endpoint.refusals import OLD_LENGTH, SCHEMA, TEMPERATURE
from nodes.llm.endpoint.remote_model import EndpointModel
from nodes.llm.endpoint.reply_schema import json_schema
from nodes.llm.endpoint.settings import (
    SHORTEST_HIDDEN,
    UNSENDABLE_KEY,
    CallLimits,
    Endpoint,
    can_be_sent,
    check_network,
    from_environment,
    proxy_secrets,
)
from sim.errors import BadInputError

# The package of each provider. LangChain knows more: those whose models run in this process, from files that a name
# could choose, are left out.
PROVIDER_PACKAGES: Final = {
    "anthropic": "langchain-anthropic",
    "azure_ai": "langchain-azure-ai",
    "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws",
    "bedrock_converse": "langchain-aws",
    "cohere": "langchain-cohere",
    "deepseek": "langchain-deepseek",
    "fireworks": "langchain-fireworks",
    "google_genai": "langchain-google-genai",
    "google_vertexai": "langchain-google-vertexai",
    "groq": "langchain-groq",
    "ibm": "langchain-ibm",
    "mistralai": "langchain-mistralai",
    "nvidia": "langchain-nvidia-ai-endpoints",
    "ollama": "langchain-ollama",
    "openrouter": "langchain-openrouter",
    "perplexity": "langchain-perplexity",
    "together": "langchain-together",
    "upstage": "langchain-upstage",
    "xai": "langchain-xai",
}
# The package with `init_chat_model`.
LANGCHAIN: Final = "langchain"
# Variables of the environment that hold a secret or an address.
_SECRET = re.compile(r"API_KEY|ACCESS_KEY|SECRET|TOKEN(?!S|IZ)|PASSWORD")
_ADDRESS = re.compile(r"(?:BASE_URL|API_URL|API_BASE|ENDPOINT|_HOST)$")
# Shorter values, such as `on` or a port, stand in many texts.
_SHORTEST_SECRET = 5


def check_packages(provider: str) -> None:
    """Check that the packages of a provider are installed.

    Raises:
        BadInputError: One is missing.
    """
    missing = [package for package in (LANGCHAIN, PROVIDER_PACKAGES[provider]) if not _installed(package)]
    if missing:
        raise BadInputError(f"models of {provider} need a package: `pip install {' '.join(missing)}`")


def provider_model(provider: str, name: str, temperature: float) -> EndpointModel:
    """Return a model of a provider.

    Address and key come from the variables that the provider's package reads.

    Raises:
        BadInputError: A package or the key is missing, or the environment cannot be used.
    """
    check_packages(provider)
    check_network()
    dialect = ProviderDialect(provider, name, temperature)
    _check_keys(f"{provider}:{name}", dialect.model)
    endpoint = provider_endpoint(provider, dialect.model)
    return EndpointModel.behind(endpoint, dialect, f"{provider}:{name}", temperature)


# Endpoints of this process, by provider.
_endpoints: dict[str, Endpoint] = {}


def provider_endpoint(provider: str, model: BaseChatModel) -> Endpoint:
    """Return the endpoint of a provider in this process, which all its models share."""
    if provider not in _endpoints:
        variables = ", ".join(_keys(model)) or "the address and key of the provider in the environment"
        remedy = f"check {variables} and the model's name"
        secrets = [*_secrets(model), *proxy_secrets()]
        _endpoints[provider] = Endpoint(from_environment(CallLimits), secrets, remedy)
    return _endpoints[provider]


class ProviderDialect:
    """Options of a call in the way of a provider's package.

    Temperature and length belong to a model of LangChain, so a model is made for each choice of them. The schema
    belongs to a call: `with_structured_output` says how this provider takes it, as a tool or as a format.
    """

    def __init__(self, provider: str, name: str, temperature: float) -> None:
        self._provider, self._name = provider, name
        self._made: dict[tuple[float | None, int | None], BaseChatModel] = {}
        self._making = threading.Lock()
        self._arguments: dict[type[BaseModel], dict[str, Any]] = {}
        self.model = self._model(temperature, None)

    def options(self, schema: type[BaseModel], temperature: float, reply_tokens: int | None) -> dict[str, Any]:
        """Return the options; a provider without structured replies gets no schema."""
        found: dict[str, Any] = {TEMPERATURE: temperature}
        if schema not in self._arguments:
            self._arguments[schema] = self._schema_arguments(schema)
        if arguments := self._arguments[schema]:
            found[SCHEMA] = arguments
        return found if reply_tokens is None else found | {OLD_LENGTH: reply_tokens}

    async def prepared(self, options: dict[str, Any], *, stream: bool = False) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the model and the arguments of its call."""
        key = (options.get(TEMPERATURE), options.get(OLD_LENGTH))
        model = self._made.get(key)
        if model is None:
            # Build the model in a thread: reading certificates would block the event loop.
            model = await asyncio.to_thread(self._model, *key)
        return model, dict(options.get(SCHEMA, {}))

    def _model(self, temperature: float | None, reply_tokens: int | None) -> BaseChatModel:
        key = (temperature, reply_tokens)
        # Calls that start together share a model and its pool of connections.
        with self._making:
            if key not in self._made:
                self._made[key] = _made(self._provider, self._name, temperature, reply_tokens)
            return self._made[key]

    def _schema_arguments(self, schema: type[BaseModel]) -> dict[str, Any]:
        bare = json_schema(schema)["json_schema"]["schema"]
        titled = {"title": schema.__name__, "description": f"Answer: {schema.__name__}.", **bare}
        try:
            structured = self.model.with_structured_output(titled)
        except (NotImplementedError, ValueError):
            # How LangChain says that a model takes no schema.
            return {}
        asking = getattr(structured, "first", None)
        if not isinstance(asking, RunnableBinding):
            return {}
        arguments = dict(asking.kwargs)
        # A note for traces, which no provider takes.
        arguments.pop("ls_structured_output_format", None)
        return arguments


# Names of the fields of each provider's models; LangChain chooses the class, so its first model tells them.
_fields: dict[str, set[str]] = {}


def _made(provider: str, name: str, temperature: float | None, reply_tokens: int | None) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    given: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    if provider not in _fields:
        _fields[provider] = {*type(init_chat_model(name, model_provider=provider, **given)).model_fields}
    fields = _fields[provider]
    if "max_retries" in fields:
        # Retries are made by the caller, within its limits.
        given["max_retries"] = 0
    length = next((one for one in ("max_tokens", "max_output_tokens", "num_predict") if one in fields), None)
    if reply_tokens is not None and length is not None:
        given[length] = reply_tokens
    made: BaseChatModel = init_chat_model(name, model_provider=provider, **given)
    return made


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _keys(model: BaseChatModel) -> dict[str, str]:
    """Return the field of each key of a model, by its variable."""
    secret = {name for name, value in vars(model).items() if isinstance(value, SecretStr)}
    return {variable: field for field, variable in model.lc_secrets.items() if field in secret}


def _check_keys(name: str, model: BaseChatModel) -> None:
    for variable, field in _keys(model).items():
        key = getattr(model, field).get_secret_value()
        if not key:
            raise BadInputError(f"the model {name} needs {variable} in the environment (.env.example)")
        if not can_be_sent(key):
            raise BadInputError(f"{variable}: {UNSENDABLE_KEY}")


def _secrets(model: BaseChatModel) -> Iterator[str]:
    """Yield the keys and addresses in a model and in the environment."""
    for value in vars(model).values():
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, str) and "://" in value:
            yield from _parts(value)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET.search(name):
            yield value
        elif len(value) >= _SHORTEST_SECRET and _ADDRESS.search(name):
            yield from _parts(value if "://" in value else f"http://{value}")


def _parts(address: str) -> Iterator[str]:
    parts = urlsplit(address)
    names = (address, parts.netloc, parts.netloc.rpartition("@")[2])
    yield from (name for name in names if len(name) >= SHORTEST_HIDDEN)
    yield from {parts.password or "", unquote(parts.password or "")}
