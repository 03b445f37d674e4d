"""Chat models by name."""

import asyncio
import os

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from nodes.context import Context
from nodes.llm.rules import RulesModel
from nodes.state import Role
from sim.errors import BadInputError

# Seconds until a call to an endpoint is given up.
CALL_TIMEOUT = 120.0


async def role_model(context: Context, role: Role) -> BaseChatModel:
    """Return the chat model that plays `role`: the role's own where the context names one, else the common one."""
    name = getattr(context, f"{role}_model") or context.model
    made = _made.get((name, context.temperature))
    # Made in a thread, once: reading certificates would block the event loop.
    return made if made is not None else await asyncio.to_thread(chat_model, name, context.temperature)


_made: dict[tuple[str, float], BaseChatModel] = {}


def chat_model(name: str, temperature: float) -> BaseChatModel:
    """Return a chat model, made once a process."""
    return _made.setdefault((name, temperature), make_chat_model(name, temperature))


def make_chat_model(name: str, temperature: float) -> BaseChatModel:
    """Make a chat model.

    Args:
        name: `rules`, or `openai:NAME` for any endpoint that speaks OpenAI's protocol. Its address and key come from
            `OPENAI_BASE_URL` and `OPENAI_API_KEY` in the environment alone, never from a request.
        temperature: Sampling temperature of an LLM.

    Raises:
        BadInputError: The name is unknown, or neither address nor key is set.
    """
    if name == "rules":
        return RulesModel()
    provider, _, model = name.partition(":")
    if provider != "openai" or not model:
        raise BadInputError(
            f"there is no model {name!r}: use `rules`, or `openai:NAME` for an OpenAI-compatible endpoint"
        )
    address, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if not address and not key:
        raise BadInputError(
            f"the model {name!r} needs OPENAI_API_KEY or OPENAI_BASE_URL in the environment (.env.example)"
        )
    # Servers of one's own often need no key, but the client insists on one.
    return ChatOpenAI(
        model=model,
        temperature=temperature,
        base_url=address,
        api_key=SecretStr(key or "none"),
        timeout=CALL_TIMEOUT,
        max_retries=2,
    )
