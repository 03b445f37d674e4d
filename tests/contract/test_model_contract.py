"""Model contract: the models pass, and faulty models fail."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from graph.conformance import ModelContract
from nodes.llm import models
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.models import chat_model
from sim.errors import BadInputError
from tests.scripted import by_rules, serving


class TestRules(ModelContract):
    model = "rules"


class TestOpenAI(ModelContract):
    model = "openai:anything"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def served(cls) -> Iterator[None]:
        with serving(by_rules) as endpoint, pytest.MonkeyPatch.context() as environment:
            environment.setenv("OPENAI_BASE_URL", endpoint.url)
            shared_endpoint.cache_clear()
            yield
        shared_endpoint.cache_clear()


class OfOneLoop(FakeListChatModel):
    """Faulty: works only in the event loop of its first call."""

    lock: Any = None

    async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
        if self.lock is None:
            self.lock = asyncio.get_running_loop()
        assert self.lock is asyncio.get_running_loop()
        return await super().ainvoke(*args, **kwargs)


class Asleep(FakeListChatModel):
    """Faulty: blocks the event loop at every twentieth call."""

    asked: int = 0

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked += 1
        if self.asked % 20 == 0:
            time.sleep(1)  # noqa: ASYNC251
        return await super()._agenerate(messages, *args, **kwargs)


shared = OfOneLoop(responses=["{}"])


@pytest.mark.parametrize(
    ("made", "test"),
    [
        (lambda name, temperature: shared, ModelContract.test_one_event_loop_after_the_other_may_use_it),
        (lambda name, temperature: Asleep(responses=["{}"]), ModelContract.test_the_event_loop_goes_on_meanwhile),
        (lambda name, temperature: object(), ModelContract.test_it_is_made_by_its_name),
    ],
)
def test_a_model_that_breaks_the_contract_is_found_out(
    made: Any, test: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def good(name: str, temperature: float) -> BaseChatModel:
        return FakeListChatModel(responses=["{}"])

    class Stock(ModelContract):
        model = "stock:x"

    monkeypatch.setitem(models.OWN, "stock", good)
    test(Stock())
    monkeypatch.setitem(models.OWN, "stock", made)
    with pytest.raises((AssertionError, BadInputError)):
        test(Stock())


def test_what_a_strangers_function_raises_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, temperature: float) -> BaseChatModel:
        raise KeyError("sk-secret")

    monkeypatch.setitem(models.OWN, "stock", broken)
    with pytest.raises(BadInputError, match=r"the model 'stock:x' cannot be created \(KeyError\)") as caught:
        chat_model("stock:x", 0.5)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["gpt", "nobody:claude", "rules:x", "openai", "openai:"])
def test_a_model_that_nobody_provides_is_said_to_be_none(name: str) -> None:
    with pytest.raises(BadInputError, match="there is no model") as caught:
        chat_model(name, 0.5)
    assert "\n" not in str(caught.value)
