"""Chat models by name. Those of other packages join by the entry points `billp.models`."""

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable

from langchain_core.language_models import BaseChatModel

from nodes.context import Context
from nodes.llm.endpoint.client import EndpointModel
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.rules import RulesModel
from sim.entry_points import Registry
from sim.errors import BadInputError, BillpError

Key = tuple[str, float]
# Loggers that would write the endpoint's address for each call.
CLIENT_LOGGERS = ("httpx", "httpx2")


async def role_model(context: Context, role: str) -> BaseChatModel:
    """Return the chat model that plays `role`: the role's own where the context names one, else the common one."""
    own = getattr(context, f"{role}_temperature", None)
    key: Key = (getattr(context, f"{role}_model", "") or context.model, context.temperature if own is None else own)
    loop = asyncio.get_running_loop()
    made = _by_loop.get(loop, {}).get(key)
    if made is not None:
        return made
    # Made in a thread: reading certificates would block the event loop.
    return await asyncio.to_thread(_made_for, loop, key)


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
        name: `rules`, or `openai:NAME` for any endpoint that speaks OpenAI's protocol, or what an installed package
            brings. Addresses and keys come from the environment alone, never from a request.
        temperature: Sampling temperature of an LLM.

    Raises:
        BadInputError: The name is unknown, the environment names no usable endpoint, or a package makes no model of it.
    """
    check_model(name)
    provider, _, model = name.partition(":")
    try:
        made = PROVIDERS[provider](model, temperature)
    except BillpError:
        raise
    except Exception as error:  # Whatever code of a stranger raises. What it says may hold a key.
        raise BadInputError(f"the model {name!r} cannot be made ({type(error).__name__})") from None
    if not isinstance(made, BaseChatModel):
        raise BadInputError(f"what makes the model {name!r} returned none of LangChain's chat models")
    return made


def check_model(name: str) -> None:
    """Raise where nobody provides a model of that name; whether it answers is found out when it is asked.

    Raises:
        BadInputError: Nobody does.
    """
    provider, _, model = name.partition(":")
    if provider not in PROVIDERS or (provider == "rules" and model) or (provider == "openai" and not model):
        others = "".join(f", `{one}`" for one in PROVIDERS if one not in OWN)
        raise BadInputError(
            f"there is no model {name!r}: use `rules`, or `openai:NAME` for an OpenAI-compatible endpoint{others}"
        )


Provider = Callable[[str, float], BaseChatModel]
"""Makes a model of the name after the colon, empty where there is none, and a temperature."""


def _rules(model: str, temperature: float) -> BaseChatModel:
    return RulesModel()


def _openai(model: str, temperature: float) -> BaseChatModel:
    for logger in map(logging.getLogger, CLIENT_LOGGERS):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    # What it warns of is tried again without a schema.
    warnings.filterwarnings("ignore", "(This model does not support|Invalid schema for) OpenAI's structured output")
    return EndpointModel.behind(shared_endpoint(), model, temperature)


def _checked(loaded: Provider) -> Provider:
    if not callable(loaded):
        raise BadInputError("it is no function that makes a model")
    return loaded


OWN: dict[str, Provider] = {"rules": _rules, "openai": _openai}
PROVIDERS = Registry("model", "billp.models", OWN, _checked)
