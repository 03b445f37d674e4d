"""Chat models by name. Those of other packages join by the entry points `billp.models`."""

import logging
import warnings
from collections.abc import Callable

from langchain_core.language_models import BaseChatModel

from nodes.llm.endpoint.client import EndpointModel
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.rules import RulesModel
from sim.entry_points import Registry
from sim.errors import BadInputError, BillpError

# Loggers that would write the endpoint's address for each call.
CLIENT_LOGGERS = ("httpx", "httpx2")


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
