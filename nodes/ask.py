"""Put a question to the model of a role, and keep what was said and spent."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel

from nodes.context import Context
from nodes.llm.models import chat_model
from nodes.llm.prompting import ROUNDS_LISTED, Facts, build_messages
from nodes.llm.structured_reply import ask
from nodes.state import Exchange, VisitState

ModelKey = tuple[str, float]


async def role_model(context: Context, role: str) -> BaseChatModel:
    """Return the chat model that plays `role`: the role's own where the context names one, else the common one."""
    own = getattr(context, f"{role}_temperature", None)
    key: ModelKey = (
        getattr(context, f"{role}_model", "") or context.model,
        context.temperature if own is None else own,
    )
    loop = asyncio.get_running_loop()
    made = _by_loop.get(loop, {}).get(key)
    if made is not None:
        return made
    # Made in a thread: reading certificates would block the event loop.
    return await asyncio.to_thread(_made_for, loop, key)


# Connections belong to the event loop in which they were opened, and so do the models that hold them.
_by_loop: dict[asyncio.AbstractEventLoop, dict[ModelKey, BaseChatModel]] = {}

_making = threading.Lock()


def _made_for(loop: asyncio.AbstractEventLoop, key: ModelKey) -> BaseChatModel:
    # One at a time, so that visits that start together share one model, and so one pool of connections.
    with _making:
        for ended in [one for one in _by_loop if one.is_closed()]:
            del _by_loop[ended]
        models = _by_loop.setdefault(loop, {})
        if key not in models:
            models[key] = chat_model(*key)
        return models[key]


# A shorter text is no plan and no lesson, but a "Stop", "None" or "OK".
SHORTEST_TEXT = 8
AnswerT = TypeVar("AnswerT", bound=BaseModel)
ContextT = TypeVar("ContextT", bound=Context)


def settings(runtime: Runtime[ContextT]) -> ContextT:
    """Return the run's context; the library passes None where a caller gave none."""
    return runtime.context or cast(ContextT, Context())


async def ask_role(
    role: str,
    state: VisitState,
    context: Context,
    facts: Callable[[], Facts],
    schema: type[AnswerT],
    *,
    fallback: Callable[[], AnswerT],
    check: Callable[[AnswerT], str | None] = lambda _: None,
    rounds_listed: int | None = ROUNDS_LISTED,
    looks_back: bool = False,
) -> tuple[AnswerT, dict[str, Any]]:
    """Ask the model that plays `role`.

    Args:
        role: Who is asked. Its prompt is the setting `{role}_prompt`; `{role}_model` and `{role}_temperature` count if
            there are such settings and they are set.
        state: The visit.
        context: The settings.
        facts: Makes what the role is told, besides its prompt. Called in a thread, with the prompt built there too: the
            time that both take grows with the visit, and other visits share the event loop.
        schema: What a reply must hold.
        fallback: Gives the answer where the model has none even when asked again.
        check: Says in words what is wrong with a well-formed answer, or None.
        rounds_listed: Most rounds that the prompt lists; None for all that fit.
        looks_back: Whether it is asked about the last round that stands in the state, not about the next one.

    Returns:
        The answer, and the update of the state that says what was said and spent.
    """
    model = await role_model(context, role)
    prompt = getattr(context, f"{role}_prompt")

    def built() -> list[BaseMessage]:
        return build_messages(prompt, {"role": role, **facts()}, context.prompt_tokens, rounds_listed)

    messages = await asyncio.to_thread(built)
    reply = await ask(
        model,
        messages,
        schema,
        check=check,
        fallback=fallback,
        main_field=next(iter(schema.model_fields)),
        retried=state.usage.retries,
    )
    exchange = Exchange(
        prompt="\n\n".join(message.text for message in messages),
        reply=reply.raw,
        outcome=reply.outcome,
        fault=reply.fault,
        round=len(state.steps) - looks_back,
    )
    return reply.value, {"exchange": state.exchange | {role: exchange}, "usage": state.usage + reply.usage}
