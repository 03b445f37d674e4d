"""Model calls: direct for a model in this process; with retries, limits and a budget for a model at an endpoint."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any

import openai
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, PrivateAttr, SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from nodes.llm.endpoint.budget import Budget
from nodes.llm.endpoint.errors import Fault, translated
from nodes.llm.endpoint.prices import Price, price_of
from nodes.llm.endpoint.settings import Endpoint, EndpointError, RefusedVisitError
from nodes.llm.endpoint.usage import Usage, usage_of
from nodes.llm.text.tokens import count_tokens

# Most attempts to reach a server that has never answered.
FIRST_CONTACT = 3
logger = logging.getLogger(__name__)


class EndpointModel(ChatOpenAI):
    """Chat model at the endpoint; it raises a `Fault` for every error, with or without streaming."""

    _endpoint: Endpoint = PrivateAttr()

    @classmethod
    def behind(cls, endpoint: Endpoint, name: str, temperature: float) -> "EndpointModel":
        """Return the model `name` with a pool of connections of its own."""
        settings = endpoint.settings
        client: Any = openai.DefaultAsyncHttpxClient(auth=settings.login)
        model = cls(
            model=name,
            temperature=temperature,
            base_url=settings.clean_address,
            # A private server often needs no key, but the client requires one.
            api_key=settings.key if settings.key.get_secret_value() else SecretStr("none"),
            timeout=settings.call_seconds,
            max_retries=0,
            use_responses_api=False,
            stream_usage=True,
            http_async_client=client,
        )
        model._endpoint = endpoint
        return model

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint with its shared limits and budget."""
        return self._endpoint

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        with translated(self._endpoint):
            result = await super()._agenerate(*args, **kwargs)
            if not result.generations:
                raise Fault("its reply has no choices", passing=True)
        return result

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        with translated(self._endpoint):
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk


async def call(
    model: BaseChatModel, prompt: Sequence[BaseMessage], schema: type[BaseModel], retried: int = 0
) -> tuple[AIMessage, Usage]:
    """Return the message of a model and the usage of the call, failed attempts included.

    Args:
        model: Any chat model.
        prompt: Messages of the prompt.
        schema: Schema of the reply; it is sent to the server unless the server refuses schemas.
        retried: Failed attempts of the visit so far.

    Raises:
        EndpointError: The endpoint of the model gives no answer, or the visit has had too many failures.
        BudgetSpentError: The call could cost more than the rest of the budget.
    """
    if not isinstance(model, EndpointModel):
        message: AIMessage = await model.ainvoke(list(prompt))
        return message, usage_of(message, prompt)
    return await _Call(model, prompt, schema, retried).answer()


class _Call:
    """One call with its attempts.

    Only this class retries. The client's own retries are off: their waits cannot be set, they bypass the limits of
    requests and tokens a minute, and they miss a stream that breaks off. A retry policy on the nodes would repeat
    recall and shortlist for each attempt, and would ignore the wait that the server asks for.
    """

    def __init__(
        self, model: EndpointModel, prompt: Sequence[BaseMessage], schema: type[BaseModel], retried: int
    ) -> None:
        self._model = model
        self._endpoint = model.endpoint
        self._limits = model.endpoint.settings
        self._prompt = list(prompt)
        # Options that a server may refuse; the visit then runs without them.
        self._options = {"temperature": model.temperature, "response_format": json_schema(schema)}
        if self._endpoint.budget is not None:
            self._options["max_completion_tokens"] = self._limits.reply_tokens
        self._price = price_of(f"openai:{model.model_name}")
        self._left = max(0, self._limits.visit_retries - retried)
        self._failed = 0

    async def answer(self) -> tuple[AIMessage, Usage]:
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, Fault) and error.passing),
            stop=self._stop,
            wait=self._wait,
            before_sleep=lambda state: logger.info("attempt %d failed: %s", state.attempt_number, _fault(state)),
            reraise=True,
        )
        try:
            message: AIMessage = await retrying(self._attempt)
        except Fault as fault:
            own = fault.about_prompt or self._failed > self._left
            raise (RefusedVisitError if own else EndpointError)(self._last_words(fault)) from None
        self._endpoint.answered = True
        return message, usage_of(message, self._prompt, self._price) + Usage(retries=self._failed)

    async def _attempt(self) -> AIMessage:
        """Send the request; if the server refuses an option, send it again at once without the option."""
        name, refused = self._model.model_name, set[str]()
        while True:
            options = {
                option: value
                for option, value in self._options.items()
                if option not in refused and (name, option) not in self._endpoint.refused
            }
            try:
                message = await self._ask(options)
            except Fault as fault:
                if not fault.refused & options.keys():
                    self._failed += 1
                    raise
                refused |= fault.refused
            else:
                # Remember the refused options only after a success: an error message may repeat any part of a request.
                self._endpoint.refused |= {(name, option) for option in refused}
                return message

    async def _ask(self, options: dict[str, Any]) -> AIMessage:
        expected, budget, price = 0, self._endpoint.budget, self._price
        if self._limits.tokens_a_minute or budget:
            expected = sum(count_tokens(message.text) for message in self._prompt)
        await self._endpoint.requests.wait(1)
        await self._endpoint.tokens.wait(expected)
        if budget is None or price is None:
            message = await self._send(options)
        else:
            message = await self._paid(options, budget, price, expected)
        if self._limits.tokens_a_minute and message.usage_metadata:
            self._endpoint.tokens.correct(message.usage_metadata["total_tokens"] - expected)
        return message

    async def _paid(self, options: dict[str, Any], budget: Budget, price: Price, prompt_tokens: int) -> AIMessage:
        """Send the request within a budget; its highest cost stays reserved until the real cost is known."""
        reserved, cost = price.cost(prompt_tokens, 0, self._limits.reply_tokens), 0.0
        budget.reserve(reserved)
        try:
            message = await self._send(options)
            cost = usage_of(message, self._prompt, price).cost
        finally:
            budget.settle(reserved, cost)
        return message

    async def _send(self, options: dict[str, Any]) -> AIMessage:
        with translated(self._endpoint):
            async with asyncio.timeout(self._limits.call_seconds):
                # In the body, the schema is sent unchanged. As an argument, it would make the client check replies
                # against it, and raise for a truncated reply.
                body = {name: value for name, value in options.items() if name != "temperature"}
                message: AIMessage = await self._model.ainvoke(
                    self._prompt, temperature=options.get("temperature"), extra_body=body
                )
        return message

    def _stop(self, state: RetryCallState) -> bool:
        fault = _fault(state)
        new = not fault.connected and not self._endpoint.answered
        most = min(FIRST_CONTACT, self._limits.attempts) if new else self._limits.attempts
        longer = (fault.wait or 0) > self._limits.longest_wait
        return state.attempt_number >= most or self._failed > self._left or longer

    def _wait(self, state: RetryCallState) -> float:
        """Return the seconds to wait: the server's own request, else twice the last wait; both with jitter."""
        asked = _fault(state).wait
        if asked is not None:
            # Add jitter, so that the calls do not all return at the same moment.
            return asked + random.uniform(0, self._limits.first_wait)
        longest = wait_exponential(multiplier=self._limits.first_wait, max=self._limits.longest_wait)(state)
        return longest * random.uniform(0.5, 1)

    def _last_words(self, fault: Fault) -> str:
        said = f"the endpoint of the model openai:{self._model.model_name} failed ({fault})"
        if not fault.passing:
            return f"{said}: check OPENAI_BASE_URL, OPENAI_API_KEY and the model's name"
        if self._failed > self._left:
            return f"{said}; more than {self._limits.visit_retries} attempts of this visit have (BILLP_VISIT_RETRIES)"
        if (fault.wait or 0) > self._limits.longest_wait:
            return f"{said} and asks to wait {fault.wait:.0f} s, longer than BILLP_LONGEST_WAIT: try again later"
        return f"{said}, {self._failed} times in a row: check OPENAI_BASE_URL, or try again later"


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Fault):
        raise TypeError(f"only a Fault is tried again, not {type(error).__name__}")
    return error


@lru_cache(maxsize=64)
def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the `response_format` for a schema; the result is cached, so do not change it.

    Lengths, patterns and ranges are left out: some servers refuse or misread them, and every reply is checked anyway.
    """
    whole = schema.model_json_schema()
    fields = {
        name: {key: value for key, value in field.items() if key in ("type", "items", "enum", "anyOf", "description")}
        for name, field in whole["properties"].items()
    }
    # All fields required and no others allowed: the strict form that OpenAI requires.
    bare = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": schema.__name__, "strict": True, "schema": bare}}
