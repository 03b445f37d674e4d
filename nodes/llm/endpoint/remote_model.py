"""Chat model behind an endpoint: one class around the chat model of any provider."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import BaseModel, PrivateAttr

from nodes.llm.endpoint.errors import Fault, translated
from nodes.llm.endpoint.settings import Endpoint


class Dialect(Protocol):
    """Way in which a provider takes the options of a call."""

    model: BaseChatModel
    """Chat model of the provider, as it usually is."""

    def options(self, schema: type[BaseModel], temperature: float, reply_tokens: int | None) -> dict[str, Any]:
        """Return the options of a call by name; each may be refused and left out.

        Args:
            schema: Schema of the reply.
            temperature: Sampling temperature.
            reply_tokens: Most tokens of the reply; None for the provider's own limit.
        """
        ...

    async def prepared(self, options: dict[str, Any], *, stream: bool = False) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the provider's chat model and the arguments of its call for some of the options."""
        ...


class EndpointModel(BaseChatModel):
    """Chat model behind an endpoint; it raises a `Fault` for every error, with or without streaming.

    The provider's own model is no field: its representation holds addresses.
    """

    model: str
    """Full name, such as `openai:gpt-4o-mini`."""
    temperature: float
    _endpoint: Endpoint = PrivateAttr()
    _dialect: Dialect = PrivateAttr()

    @classmethod
    def behind(cls, endpoint: Endpoint, dialect: Dialect, name: str, temperature: float) -> "EndpointModel":
        """Return the model of a full name at an endpoint, which it asks in a dialect."""
        model = cls(model=name, temperature=temperature)
        model._endpoint, model._dialect = endpoint, dialect
        kind = type(dialect.model)
        streams = kind._astream is not BaseChatModel._astream or kind._stream is not BaseChatModel._stream
        model.disable_streaming = not streams
        return model

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint with its shared limits and budget."""
        return self._endpoint

    @property
    def dialect(self) -> Dialect:
        """Return the way in which the provider takes options."""
        return self._dialect

    @property
    def _llm_type(self) -> str:
        return self._dialect.model._llm_type

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = self._dialect.model._get_ls_params(stop=stop)
        params["ls_temperature"] = self.temperature
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("call a model behind an endpoint by `ainvoke`: its limits need an event loop")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with translated(self._endpoint):
            model, arguments = await self._dialect.prepared(kwargs.pop("options", {}))
            result = await model._agenerate(messages, stop=stop, run_manager=run_manager, **arguments, **kwargs)
            if not result.generations:
                raise Fault("its reply has no choices", passing=True)
        return result

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated(self._endpoint):
            empty = True
            model, arguments = await self._dialect.prepared(kwargs.pop("options", {}), stream=True)
            async for chunk in model._astream(messages, stop=stop, run_manager=run_manager, **arguments, **kwargs):
                empty = False
                yield chunk
            if empty:
                raise Fault("its stream holds no reply", passing=True)
