"""Chat models by name; other packages add models by the entry point group `billp.models`."""

import logging
import warnings
from collections.abc import Callable

from langchain_core.language_models import BaseChatModel

from nodes.llm.endpoint.client import EndpointModel
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.rules import RulesModel
from sim.entry_points import Registry
from sim.errors import BadInputError, BillpError

# Loggers that write the endpoint's address for each call unless their level is raised.
CLIENT_LOGGERS = ("httpx", "httpx2")


def chat_model(name: str, temperature: float) -> BaseChatModel:
    """Return the chat model of a name.

    Args:
        name: `rules`, `openai:NAME` for any endpoint with OpenAI's protocol, or a model of an installed package.
            Addresses and keys come only from the environment, never from a request.
        temperature: Sampling temperature of an LLM.

    Raises:
        BadInputError: The name is unknown, the environment names no usable endpoint, or a package fails to make the
            model.
    """
    check_model(name)
    provider, _, model = name.partition(":")
    try:
        made = PROVIDERS[provider](model, temperature)
    except BillpError:
        raise
    except Exception as error:  # Third-party code may raise any error, and its message may hold a key.
        raise BadInputError(
            f"the model {name!r} cannot be created ({type(error).__name__}): check the package that provides it"
        ) from None
    if not isinstance(made, BaseChatModel):
        raise BadInputError(
            f"the function for the model {name!r} did not return a chat model of LangChain: correct its package"
        )
    return made


def check_model(name: str) -> None:
    """Check that a provider for the model's name exists; the model itself is not called.

    Raises:
        BadInputError: No provider has a model of this name.
    """
    provider, _, model = name.partition(":")
    if provider not in PROVIDERS or (provider == "rules" and model) or (provider == "openai" and not model):
        others = "".join(f", `{one}`" for one in PROVIDERS if one not in OWN)
        raise BadInputError(
            f"there is no model {name!r}: use `rules`, or `openai:NAME` for an OpenAI-compatible endpoint{others}"
        )


Provider = Callable[[str, float], BaseChatModel]
"""Function that makes a model from the name after the colon (empty if missing) and a temperature."""


def _rules(model: str, temperature: float) -> BaseChatModel:
    return RulesModel()


def _openai(model: str, temperature: float) -> BaseChatModel:
    for logger in map(logging.getLogger, CLIENT_LOGGERS):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    # Hide the warning: such a request is sent again without a schema.
    warnings.filterwarnings("ignore", "(This model does not support|Invalid schema for) OpenAI's structured output")
    return EndpointModel.behind(shared_endpoint(), model, temperature)


def _checked(loaded: Provider) -> Provider:
    if not callable(loaded):
        raise BadInputError("it is not a function that returns a chat model")
    return loaded


OWN: dict[str, Provider] = {"rules": _rules, "openai": _openai}
PROVIDERS = Registry("model", "billp.models", OWN, _checked)
