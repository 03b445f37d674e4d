"""Chat models by name; other packages add models by the entry point group `billp.models`."""

import logging
import warnings
from collections.abc import Callable
from functools import partial

from langchain_core.language_models import BaseChatModel

from nodes.llm.endpoint.providers import PROVIDER_PACKAGES, check_packages, provider_model
from nodes.llm.recording import ReplayedModel, replayed_alone
from nodes.llm.rules import RulesModel
from nodes.llm.text.model_names import unknown_model
from sim.entry_points import Registry
from sim.errors import BadInputError, BillpError

# Loggers that write the endpoint's address for each call unless their level is raised.
CLIENT_LOGGERS = ("httpx", "httpx2")


def chat_model(name: str, temperature: float) -> BaseChatModel:
    """Return the chat model of a name.

    Args:
        name: `rules`, `openai:NAME` for any endpoint with OpenAI's protocol, `PROVIDER:NAME` for a provider of
            LangChain, or a model of an installed package. Addresses and keys come only from the environment, never
            from a request.
        temperature: Sampling temperature of an LLM.

    Raises:
        BadInputError: The name is unknown, the environment names no usable endpoint, or a package fails to make the
            model.
    """
    check_model(name)
    provider, _, model = name.partition(":")
    if provider != "rules" and replayed_alone():
        return ReplayedModel(model=name, temperature=temperature)
    try:
        made = _maker(provider)(model, temperature)
    except BillpError:
        raise
    except Exception as error:  # Third-party code may raise any error, and its message may hold a key.
        raise BadInputError(
            f"the model {name!r} cannot be created ({type(error).__name__}): "
            "check its package, and its key and address in the environment"
        ) from None
    if not isinstance(made, BaseChatModel):
        raise BadInputError(
            f"the function for the model {name!r} did not return a chat model of LangChain: correct its package"
        )
    return made


def check_model(name: str) -> None:
    """Check that a provider for the model's name exists; the model itself is not called.

    Raises:
        BadInputError: No provider has a model of this name, or the provider's package is not installed.
    """
    provider, _, model = name.partition(":")
    if provider != "rules" and model and replayed_alone():
        return
    if provider in PROVIDER_PACKAGES and provider not in PROVIDERS and model:
        check_packages(provider)
    elif provider not in PROVIDERS or (provider == "rules" and model) or (provider == "openai" and not model):
        others = "".join(f", `{one}`" for one in PROVIDERS if one not in OWN)
        raise BadInputError(unknown_model(name) + (f"; further providers: {others[2:]}" if others else ""))


def at_endpoint(name: str) -> bool:
    """Return whether a model is called within limits and a budget, as all but those of other packages are.

    Examples:
        >>> at_endpoint("openai:gpt-4o"), at_endpoint("anthropic:claude"), at_endpoint("mine:model")
        (True, True, False)
    """
    provider = name.partition(":")[0]
    return provider == "openai" or (provider in PROVIDER_PACKAGES and provider not in PROVIDERS)


Provider = Callable[[str, float], BaseChatModel]
"""Function that makes a model from the name after the colon (empty if missing) and a temperature."""


def _maker(provider: str) -> Provider:
    """Return the function of a provider; an installed package of this project comes before LangChain's."""
    if provider in PROVIDERS:
        return PROVIDERS[provider]
    _quiet_clients()
    return partial(provider_model, provider)


def _quiet_clients() -> None:
    for logger in map(logging.getLogger, CLIENT_LOGGERS):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _rules(model: str, temperature: float) -> BaseChatModel:
    return RulesModel()


def _openai(model: str, temperature: float) -> BaseChatModel:
    # The client is slow to import, and `rules` needs none.
    from nodes.llm.endpoint.openai_model import openai_model

    _quiet_clients()
    # Hide the warning: such a request is sent again without a schema.
    warnings.filterwarnings("ignore", "(This model does not support|Invalid schema for) OpenAI's structured output")
    # Hide the warning: usage of any shape is read.
    warnings.filterwarnings("ignore", "Pydantic serializer warnings")
    return openai_model(model, temperature)


def _checked(loaded: Provider) -> Provider:
    if not callable(loaded):
        raise BadInputError("it is not a function that returns a chat model")
    return loaded


OWN: dict[str, Provider] = {"rules": _rules, "openai": _openai}
PROVIDERS = Registry("model", "billp.models", OWN, _checked)
