"""Model calls: direct for a model in this process; with retries, limits and a budget for a model at an endpoint."""

import asyncio
import json
import logging
import random
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from nodes.llm.endpoint.budget import Budget
from nodes.llm.endpoint.errors import Fault, translated
from nodes.llm.endpoint.prices import Price, price_of
from nodes.llm.endpoint.refusals import LENGTH, OLD_LENGTH, SCHEMA, SYSTEM
from nodes.llm.endpoint.remote_model import EndpointModel
from nodes.llm.endpoint.settings import EndpointError, RefusedVisitError
from nodes.llm.endpoint.usage import Usage, usage_of
from nodes.llm.text.tokens import count_tokens

# Most attempts to reach a server that has never answered.
FIRST_CONTACT = 3
logger = logging.getLogger(__name__)


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
        self._limits = model.endpoint.limits
        self._prompt = list(prompt)
        reply_tokens = None if self._endpoint.budget is None else self._limits.reply_tokens
        # Options that a server may refuse; the visit then runs without them.
        self._options = {**model.dialect.options(schema, model.temperature, reply_tokens), SYSTEM: True}
        self._price = price_of(model.model)
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
        name, refused = self._model.model, set[str]()
        while True:
            options = {
                option: value
                for option, value in self._options.items()
                if option not in refused and (name, option) not in self._endpoint.refused
            }
            try:
                message = await self._ask(options)
            except Fault as fault:
                left_out = options.keys() & fault.refused
                if LENGTH in options:
                    # The older name is not sent beside the newer one, so a complaint only recommends it.
                    left_out -= {OLD_LENGTH}
                if not left_out and fault.vague and (name, SCHEMA) not in self._endpoint.taken:
                    left_out = options.keys() & {SCHEMA}
                if not left_out:
                    self._failed += 1
                    raise
                refused |= left_out
            else:
                # Remember the refused options only after a success: an error message may repeat any part of a request.
                # An option that was taken before was refused for this prompt alone.
                self._endpoint.taken |= {(name, option) for option in options}
                self._endpoint.refused |= {(name, option) for option in refused} - self._endpoint.taken
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
        prompt = self._prompt if SYSTEM in options else without_system(self._prompt)
        with translated(self._endpoint):
            async with asyncio.timeout(self._limits.call_seconds):
                message: AIMessage = await self._model.ainvoke(prompt, options=options)
        return in_text(message)

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
        said = f"the endpoint of the model {self._model.model} failed ({fault})"
        if not fault.passing:
            return f"{said}: {fault.remedy or self._endpoint.remedy}"
        if self._failed > self._left:
            return f"{said}; more than {self._limits.visit_retries} attempts of this visit have (BILLP_VISIT_RETRIES)"
        if (fault.wait or 0) > self._limits.longest_wait:
            return f"{said} and asks to wait {fault.wait:.0f} s, longer than BILLP_LONGEST_WAIT: try again later"
        return f"{said}, {self._failed} times in a row: {self._endpoint.remedy}, or try again later"


def without_system(prompt: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return a prompt with the system's text at the start of the user's first message.

    Examples:
        >>> [said.text.split() for said in without_system([SystemMessage("Plan."), HumanMessage("Facts")])]
        [['Plan.', 'Facts']]
    """
    rules = [message.text for message in prompt if isinstance(message, SystemMessage)]
    others = [message for message in prompt if not isinstance(message, SystemMessage)]
    if rules and others:
        others[0] = HumanMessage("\n\n".join([*rules, others[0].text]))
    return others


def in_text(message: AIMessage) -> AIMessage:
    """Return a reply that came as the call of a tool, as some providers send structured replies, as JSON text.

    Prose before the call is left out: the answer is in the call.
    """
    arguments = next((called["args"] for called in message.tool_calls if called["args"]), None)
    if arguments is None:
        return message
    return message.model_copy(update={"content": json.dumps(arguments, ensure_ascii=False)})


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Fault):
        raise TypeError(f"only a Fault is tried again, not {type(error).__name__}")
    return error
