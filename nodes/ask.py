"""Ask the model of a role, and record the exchange and its usage."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel

from nodes.context import Context, completed
from nodes.llm.models import chat_model
from nodes.llm.prompting import ROUNDS_LISTED, Facts, build_messages
from nodes.llm.prompts import default_prompt
from nodes.llm.recording import Question, is_recorded, visit_name
from nodes.llm.rules import Rules, RulesModel
from nodes.llm.structured_reply import ask
from nodes.state import Exchange, VisitState
from sim.errors import BadInputError

ModelKey = tuple[str, float]


async def role_model(context: Context, role: str) -> BaseChatModel:
    """Return the chat model of `role`: the role's own model if the context names one, else the common model."""
    key = _model_key(context, role)
    loop = asyncio.get_running_loop()
    made = _by_loop.get(loop, {}).get(key)
    if made is not None:
        return made
    # Build the model in a thread: reading certificates would block the event loop.
    return await asyncio.to_thread(_made_for, loop, key)


def _model_key(context: Context, role: str) -> ModelKey:
    own = getattr(context, f"{role}_temperature", None)
    return getattr(context, f"{role}_model", "") or context.model, context.temperature if own is None else own


# Models by event loop: a model holds connections, and a connection works only in the loop that opened it.
_by_loop: dict[asyncio.AbstractEventLoop, dict[ModelKey, BaseChatModel]] = {}

_making = threading.Lock()


def _made_for(loop: asyncio.AbstractEventLoop, key: ModelKey) -> BaseChatModel:
    # Build one model at a time, so that visits that start together share it and its connection pool.
    with _making:
        for ended in [one for one in _by_loop if one.is_closed()]:
            del _by_loop[ended]
        models = _by_loop.setdefault(loop, {})
        if key not in models:
            models[key] = chat_model(*key)
        return models[key]


# Facts that only a person's visit has; they are explained behind the prompt of a role that gets one of them.
PERSON_FACTS = frozenset(("wishes", "never"))
# Least characters of a plan or lesson. Shorter replies are texts such as "Stop", "None" or "OK".
SHORTEST_TEXT = 8
AnswerT = TypeVar("AnswerT", bound=BaseModel)
ContextT = TypeVar("ContextT", bound=Context)


def settings(runtime: Runtime[ContextT]) -> ContextT:
    """Return the settings of the run: its context, that of our own in another graph's context, or the defaults."""
    return cast(ContextT, completed(Context, runtime.context))


def _messages(role: str, context: Context, facts: Callable[[], Facts], rounds_listed: int | None) -> list[BaseMessage]:
    """Return the prompt of a role with its facts.

    Raises:
        BadInputError: The facts are no dict, or no JSON.
    """
    given = facts()
    if not isinstance(given, dict):
        raise BadInputError(f"the facts of the role {role!r} are {type(given).__name__}: return a dict")
    prompt = getattr(context, f"{role}_prompt")
    if given.keys() & PERSON_FACTS:
        prompt = f"{prompt}\n\n{default_prompt('wishes')}"
    try:
        return build_messages(prompt, {"role": role, **given}, context.prompt_tokens, rounds_listed)
    except TypeError as error:
        raise BadInputError(f"the facts of the role {role!r} are not JSON: return JSON only ({error})") from error


async def ask_role(
    role: str,
    state: VisitState,
    context: Context,
    facts: Callable[[], Facts],
    schema: type[AnswerT],
    *,
    fallback: Callable[[], AnswerT],
    check: Callable[[AnswerT], str | None] = lambda _: None,
    rules: Rules | None = None,
    rounds_listed: int | None = ROUNDS_LISTED,
    looks_back: bool = False,
) -> tuple[AnswerT, dict[str, Any]]:
    """Ask the model of `role` for an answer.

    Args:
        role: Name of the role. Its prompt is the setting `{role}_prompt`. The settings `{role}_model` and
            `{role}_temperature` replace the common ones if they exist and are set.
        state: State of the visit.
        context: Settings of the run.
        facts: Function that returns the facts of the prompt. It is called in a thread, and the prompt is built in
            that thread: both take longer as the visit grows, and other visits share the event loop.
        schema: Schema of the answer.
        fallback: Function that returns the answer if the model gives no usable one when asked twice.
        check: Function that returns the fault of a well-formed answer in words, or None.
        rules: Rules of the role for the model `rules`; None for those of a built-in role.
        rounds_listed: Most rounds that the prompt lists; None for all that fit.
        looks_back: Whether the question is about the last round in the state instead of the next one.

    Returns:
        The answer, and the state update with the exchange and the usage.
    """
    model = await role_model(context, role)
    if rules is not None and isinstance(model, RulesModel):
        model = RulesModel(rules=rules)
    messages = await asyncio.to_thread(_messages, role, context, facts, rounds_listed)
    number = len(state.steps) - looks_back
    question = None
    # The model `rules` needs no record, because it answers alike each time.
    if is_recorded() and not isinstance(model, RulesModel):
        name, temperature = _model_key(context, role)
        question = Question(visit=visit_name(), role=role, round=number, model=name, temperature=temperature)
    reply = await ask(
        model,
        messages,
        schema,
        check=check,
        fallback=fallback,
        main_field=next(iter(schema.model_fields)),
        retried=state.usage.retries,
        question=question,
    )
    exchange = Exchange(
        prompt="\n\n".join(message.text for message in messages),
        reply=reply.raw,
        outcome=reply.outcome,
        fault=reply.fault,
        round=number,
    )
    return reply.value, {"exchange": state.exchange | {role: exchange}, "usage": state.usage + reply.usage}
