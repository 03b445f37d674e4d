"""Chat models by name."""

import asyncio
import logging
import threading
import warnings

from langchain_core.language_models import BaseChatModel

from nodes.context import Context
from nodes.llm.calling import EndpointModel
from nodes.llm.endpoint import shared_endpoint
from nodes.llm.rules import RulesModel
from sim.errors import BadInputError

Key = tuple[str, float]
# Loggers that would write the endpoint's address for each call.
CLIENT_LOGGERS = ("httpx", "httpx2")


async def role_model(context: Context, role: str) -> BaseChatModel:
    """Return the chat model that plays `role`: the role's own where the context names one, else the common one."""
    own = getattr(context, f"{role}_temperature", None)
    key: Key = (getattr(context, f"{role}_model", "") or context.model, context.temperature if own is None else own)
    loop = asyncio.get_running_loop()
    made = _made.get(key) or _by_loop.get(loop, {}).get(key)
    if made is not None:
        return made
    # Made in a thread: reading certificates would block the event loop.
    return await asyncio.to_thread(_made_for, loop, key)


# Models that run in this process.
_made: dict[Key, BaseChatModel] = {}
# Connections belong to the event loop in which they were opened, and so do the models that hold them.
_by_loop: dict[asyncio.AbstractEventLoop, dict[Key, BaseChatModel]] = {}
_making = threading.Lock()


def _made_for(loop: asyncio.AbstractEventLoop, key: Key) -> BaseChatModel:
    # One at a time, so that visits that start together share one model, and so one pool of connections.
    with _making:
        for ended in [one for one in _by_loop if one.is_closed()]:
            del _by_loop[ended]
        models = _by_loop.setdefault(loop, {})
        if key not in models:
            models[key] = chat_model(*key)
        return models[key]


def chat_model(name: str, temperature: float) -> BaseChatModel:
    """Return a chat model.

    Args:
        name: `rules`, or `openai:NAME` for any endpoint that speaks OpenAI's protocol. Its address and key come from
            the environment alone, never from a request.
        temperature: Sampling temperature of an LLM.

    Raises:
        BadInputError: The name is unknown, or the environment names no usable endpoint.
    """
    if name == "rules":
        return _made.setdefault((name, temperature), RulesModel())
    provider, _, model = name.partition(":")
    if provider != "openai" or not model:
        raise BadInputError(
            f"there is no model {name!r}: use `rules`, or `openai:NAME` for an OpenAI-compatible endpoint"
        )
    for logger in map(logging.getLogger, CLIENT_LOGGERS):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    # What it warns of is tried again without a schema.
    warnings.filterwarnings("ignore", "(This model does not support|Invalid schema for) OpenAI's structured output")
    return EndpointModel.behind(shared_endpoint(), model, temperature)
