"""OpenAI-compatible server: its chat model, the options of a call, and usage of any shape."""

import json
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from nodes.llm.endpoint.errors import Fault, reply_fault
from nodes.llm.endpoint.refusals import LENGTH, OLD_LENGTH, SCHEMA, STREAM_USAGE, TEMPERATURE
from nodes.llm.endpoint.remote_model import EndpointModel
from nodes.llm.endpoint.reply_schema import json_schema
from nodes.llm.endpoint.settings import Endpoint, EndpointSettings, check_network, proxies, shared_endpoint

# Names under which servers report tokens, in the order of preference.
PROMPT_COUNTS = ("prompt_tokens", "input_tokens", "promptTokens", "prompt_eval_count")
REPLY_COUNTS = ("completion_tokens", "output_tokens", "completionTokens", "eval_count")
CACHED_COUNTS = ("cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")
MOST_TOKENS = 10**12
# Built once: `json.dumps` with settings builds an encoder for each call.
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class OpenAIDialect:
    """Options of a call in OpenAI's protocol."""

    def __init__(self, model: BaseChatModel) -> None:
        self.model = model

    def options(self, schema: type[BaseModel], temperature: float, reply_tokens: int | None) -> dict[str, Any]:
        """Return the options; the older name of the length is for servers that refuse the newer one."""
        lengths = {} if reply_tokens is None else {LENGTH: reply_tokens, OLD_LENGTH: reply_tokens}
        return {TEMPERATURE: temperature, SCHEMA: json_schema(schema), STREAM_USAGE: True, **lengths}

    async def prepared(self, options: dict[str, Any], *, stream: bool = False) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the model and the arguments of its call."""
        # In the body, the schema is sent unchanged. As an argument, it would make the client check replies against it,
        # and raise for a truncated reply.
        body = {name: options[name] for name in (SCHEMA, LENGTH, OLD_LENGTH) if name in options}
        if LENGTH in body:
            body.pop(OLD_LENGTH, None)
        arguments: dict[str, Any] = {"extra_body": body}
        if TEMPERATURE in options:
            arguments["temperature"] = options[TEMPERATURE]
        return self.model, arguments | ({"stream_usage": STREAM_USAGE in options} if stream else {})


class _Client(ChatOpenAI):
    """Client that posts by its HTTP client alone, takes usage of any shape, and counts that of a stream once."""

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # By the HTTP client alone: OpenAI's client rewrites each request and reply by their types, and LangChain reads
        # each reply in a thread, for nearly half of a call's processor time together.
        body = self._get_request_payload(messages, stop=stop, **kwargs)
        body |= body.pop("extra_body", {})
        client = self.root_async_client
        response = await cast(Any, self.http_async_client).post(
            f"{client.base_url}chat/completions",
            content=_dump(body).encode(),
            headers=_headers(client),
            timeout=self.request_timeout,
        )
        response.raise_for_status()
        reply = response.json()
        return self._create_chat_result({**reply, "usage": readable_usage(reply.get("usage"))})

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        plain = {**chunk, "usage": readable_usage(chunk.get("usage")), "choices": chunk.get("choices") or []}
        return super()._convert_chunk_to_generation_chunk(plain, default_chunk_class, base_generation_info)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        # Some servers send the usage so far with each piece, and LangChain would add them all up.
        usage: UsageMetadata | None = None
        async for chunk in super()._astream(*args, **kwargs):
            if isinstance(chunk.message, AIMessageChunk) and (reported := chunk.message.usage_metadata):
                usage = reported if usage is None or reported["total_tokens"] >= usage["total_tokens"] else usage
                chunk.message.usage_metadata = None
            yield chunk
        if usage is not None:
            yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage))


def openai_model(name: str, temperature: float) -> EndpointModel:
    """Return the model `name` of the configured endpoint, with a pool of connections of its own.

    Raises:
        BadInputError: The environment names no usable endpoint, proxy or certificates.
    """
    check_network()
    endpoint = shared_endpoint()
    # Of the same reading of the environment as the secrets that are kept out of messages.
    settings = cast(EndpointSettings, endpoint.limits)
    found = proxies()
    own_proxy = found.get("OPENAI_PROXY") or found.get("openai_proxy")
    client: Any = openai.DefaultAsyncHttpxClient(
        auth=settings.login, proxy=own_proxy, event_hooks={"response": [_reader(endpoint)]}
    )
    # The clients of this process read the variables of proxies, so a warning that they do not would be wrong.
    more: dict[str, Any] = {"http_socket_options": ()} if "http_socket_options" in ChatOpenAI.model_fields else {}
    model = _Client(
        model=name,
        base_url=settings.clean_address,
        # A private server often needs no key, but the client requires one.
        api_key=settings.key if settings.key.get_secret_value() else SecretStr("none"),
        timeout=settings.call_seconds,
        max_retries=0,
        use_responses_api=False,
        http_async_client=client,
        openai_proxy=None,
        **more,
    )
    return EndpointModel.behind(endpoint, OpenAIDialect(model), f"openai:{name}", temperature)


def _headers(client: openai.AsyncOpenAI) -> dict[str, str]:
    """Return the headers of OpenAI's client; those of its variables replace that of the key, as in the client."""
    given = (*client.auth_headers.items(), *client.default_headers.items())
    last = {name.lower(): text for name, text in given}
    return {name: text for name, text in last.items() if isinstance(text, str)}


def _reader(endpoint: Endpoint) -> Any:
    """Return the hook that reads an answer before the client does, which knows replies in OpenAI's form alone."""

    async def read(response: Any) -> None:
        if response.is_success and "text/event-stream" not in response.headers.get("content-type", ""):
            fault: Fault | None = reply_fault(await response.aread(), endpoint)
            if fault is not None:
                raise fault

    return read


def readable_usage(given: object) -> dict[str, Any] | None:
    """Return the usage in OpenAI's form with whole numbers; None if it holds no count of tokens.

    Examples:
        >>> readable_usage({"input_tokens": 7.0, "output_tokens": "2"})["total_tokens"]
        9
        >>> readable_usage([7, 2]), readable_usage({"prompt_tokens": None})
        (None, None)
    """
    if not isinstance(given, Mapping):
        return None
    prompt, reply = _count(given, PROMPT_COUNTS), _count(given, REPLY_COUNTS)
    if not prompt and not reply:
        return None
    details = given.get("prompt_tokens_details")
    cached = _count(details if isinstance(details, Mapping) else {}, CACHED_COUNTS) or _count(given, CACHED_COUNTS)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply,
        "total_tokens": prompt + reply,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
    }


def _count(given: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        try:
            number = float(given.get(name) or 0)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number) and 0 < number < MOST_TOKENS:
            return round(number)
    return 0
