"""Providers of LangChain behind scripted servers of their own protocols: Anthropic's and Ollama's."""

import asyncio
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import OpenAIError

from nodes.context import Context
from nodes.llm.endpoint.budget import Budget, BudgetSpentError, share_budget
from nodes.llm.endpoint.prices import price_of
from nodes.llm.endpoint.providers import PROVIDER_PACKAGES, ProviderDialect, _made
from nodes.llm.endpoint.settings import EndpointError
from nodes.llm.models import chat_model, check_model
from nodes.state import VisitInput
from sim.errors import BadInputError
from tests.integration.endpoint.test_endpoint import QUICK, plain, visit
from tests.integration.endpoint.test_servers import answer, streamed
from tests.scripted import Asked, Endpoint, Failure, Raw, Reply, Script, by_rules, serving

pytestmark = pytest.mark.usefixtures("home")
KEY = "sk-ant-recognisable"
EVENTS = {"content-type": "text/event-stream"}
LINES = {"content-type": "application/x-ndjson"}
PLAN = '{"plan": "more drama"}'
CLAUDE, QWEN = "anthropic:claude-sonnet-5", "ollama:qwen2.5:7b"


def said_by_anthropic(text: str, asked: Asked) -> Raw:
    """Return a text as Anthropic's API sends it: as the input of a tool if there are tools, else as text."""
    tool = "tools" in asked.body
    block = {"type": "tool_use", "id": "t", "name": "T", "input": {}} if tool else {"type": "text", "text": ""}
    usage = {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0, "output_tokens": 6}
    message = {"id": "msg", "type": "message", "role": "assistant", "model": "claude", "content": []}
    stop = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
    if not asked.body.get("stream"):
        whole = block | ({"input": json.loads(text)} if tool else {"text": text})
        return Raw(body={**message, **stop, "content": [whole], "usage": usage})
    half = len(text) // 2
    deltas = [
        {"type": "input_json_delta", "partial_json": part} if tool else {"type": "text_delta", "text": part}
        for part in (text[:half], text[half:])
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "usage": usage | {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": usage},
        {"type": "message_stop"},
    ]
    return Raw(body="".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events), headers=EVENTS)


def said_by_ollama(text: str, asked: Asked) -> Raw:
    """Return a text as Ollama sends it: lines of JSON, the last one with the counts."""
    lines = [{"model": "q", "message": {"role": "assistant", "content": part}, "done": False} for part in text]
    counts = {"prompt_eval_count": 40, "eval_count": 6, "total_duration": 1}
    last = {
        "model": "q",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": "stop",
        **counts,
    }
    return Raw(body="".join(json.dumps(line) + "\n" for line in [*lines, last]), headers=LINES)


SPEAKERS: dict[str, Callable[[str, Asked], Raw]] = {CLAUDE: said_by_anthropic, QWEN: said_by_ollama}
MODELS = [CLAUDE, QWEN]


def in_words_of(model: str, script: Callable[[Asked], Reply | Failure]) -> Script:
    """Return a script whose replies have the form of a model's provider."""

    def speak(asked: Asked) -> Reply | Failure:
        said = script(asked)
        return SPEAKERS[model](said.text, asked) if isinstance(said, Reply) else said

    return speak


def drama(asked: Asked) -> Reply:
    return Reply(PLAN)


def forget_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next model read the environment again."""
    monkeypatch.setattr("nodes.llm.endpoint.providers._endpoints", {})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint of every provider, with short waits after a failure."""
    with serving(drama) as endpoint:
        root = endpoint.url.removesuffix("/v1")
        here = {"ANTHROPIC_BASE_URL": root, "OLLAMA_HOST": root, "ANTHROPIC_API_KEY": KEY, "BILLP_CALL_ATTEMPTS": "4"}
        for name, value in (here | QUICK).items():
            monkeypatch.setenv(name, value)
        forget_endpoints(monkeypatch)
        yield endpoint


@pytest.mark.parametrize("model", MODELS)
async def test_a_visit_behind_a_provider_is_the_visit_that_its_replies_make(model: str, endpoint: Endpoint) -> None:
    endpoint.script = in_words_of(model, by_rules)
    output = await visit(context=Context(model=model, temperature=0.25))
    assert plain(output) == plain(await visit(context=Context()))
    calls = len(endpoint.asked)
    usage = output.usage
    assert (usage.calls, usage.retries) == (calls, 0)
    assert (usage.prompt_tokens, usage.completion_tokens) == (40 * calls, 6 * calls)
    assert {step.outcomes["critic"] for step in output.steps} == {"ok"}
    for asked in endpoint.asked:
        if model == CLAUDE:
            # Releases of the client differ in the header of the key.
            key = asked.headers.get("x-api-key") or asked.headers["authorization"].removeprefix("Bearer ")
            assert (asked.path, key) == ("/v1/messages", KEY)
            assert asked.body["tool_choice"]["type"] == "tool" and asked.body["temperature"] == 0.25
            (tool,) = asked.body["tools"]
            assert tool["input_schema"]["additionalProperties"] is False
        else:
            assert asked.path == "/api/chat" and asked.body["options"]["temperature"] == 0.25
            assert asked.body["format"]["required"] == list(asked.body["format"]["properties"])
    if model == CLAUDE:
        assert usage.cached_tokens == 30 * calls and usage.cost > 0


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_of_a_provider_is_read_and_counted(model: str, endpoint: Endpoint) -> None:
    endpoint.script = in_words_of(model, drama)
    reply = await streamed(lambda: answer(model))
    assert (reply.value.plan, reply.outcome) == ("more drama", "ok")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.retries) == (40, 6, 0)
    assert endpoint.asked[0].body["stream"] is True


async def test_prose_before_the_call_of_a_tool_is_no_answer(endpoint: Endpoint) -> None:
    def script(asked: Asked) -> Raw:
        whole = said_by_anthropic(PLAN, asked)
        prose = {"type": "text", "text": "I will plan less drama now."}
        return Raw(body={**whole.body, "content": [prose, *whole.body["content"]]})

    endpoint.script = script
    reply = await answer(CLAUDE)
    assert (reply.value.plan, reply.outcome, len(endpoint.asked)) == ("more drama", "ok", 1)


def wrong(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}


@pytest.mark.parametrize(
    ("model", "part", "refusal"),
    [
        (CLAUDE, "tools", Failure(400, body=wrong("invalid_request_error", "tools: not supported with this model"))),
        (CLAUDE, "temperature", Failure(400, body=wrong("invalid_request_error", "`temperature` is deprecated"))),
        (QWEN, "format", Failure(400, body={"error": "invalid format: expected json or a JSON schema"})),
        (QWEN, "format", Failure(500, body={"error": "failed to load model vocabulary required for format grammar"})),
    ],
)
async def test_a_part_that_a_provider_refuses_is_left_out_and_remembered(
    model: str, part: str, refusal: Failure, endpoint: Endpoint
) -> None:
    endpoint.script = in_words_of(model, lambda asked: refusal if part in asked.body else drama(asked))
    for _ in range(2):
        reply = await answer(model)
        assert (reply.value.plan, reply.usage.retries) == ("more drama", 0)
    assert [part in asked.body for asked in endpoint.asked] == [True, False, False]


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (CLAUDE, Failure(529, body=wrong("overloaded_error", "Overloaded"))),
        (CLAUDE, Failure(429, body=wrong("rate_limit_error", "slow down"), headers={"retry-after": "0.01"})),
        (CLAUDE, Failure(500, body=wrong("api_error", "Internal server error"))),
        (CLAUDE, Failure()),
        (CLAUDE, Raw(body="<html>", headers={"content-type": "text/html"})),
        (QWEN, Failure(503, body={"error": "server busy, please try again. maximum pending requests exceeded"})),
        (QWEN, Failure()),
        (QWEN, Raw(body='{"error": "an error was encountered while running the model: try again"}\n', headers=LINES)),
    ],
)
async def test_a_passing_fault_of_a_provider_is_asked_again(model: str, fault: Failure, endpoint: Endpoint) -> None:
    left = iter([fault] * 2)
    endpoint.script = in_words_of(model, lambda asked: next(left, None) or drama(asked))
    reply = await answer(model)
    assert (reply.value.plan, reply.usage.retries, len(endpoint.asked)) == ("more drama", 2, 3)


@pytest.mark.parametrize(
    ("model", "fault", "words"),
    [
        (
            CLAUDE,
            Failure(401, body=wrong("authentication_error", f"invalid x-api-key {KEY}")),
            "check ANTHROPIC_API_KEY",
        ),
        (CLAUDE, Failure(400, body=wrong("invalid_request_error", "Your credit balance is too low")), "check the plan"),
        (CLAUDE, Failure(403, body=wrong("permission_error", f"not for {KEY}")), "status 403, not for …"),
        (QWEN, Failure(403, body={"error": "unauthorized"}), "status 403, unauthorized"),
    ],
)
async def test_a_lasting_fault_of_a_provider_ends_at_once_in_its_words_and_without_its_key(
    model: str, fault: Failure, words: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda asked: fault
    with pytest.raises(EndpointError, match=words) as caught:
        await answer(model)
    assert len(endpoint.asked) == 1
    assert KEY not in str(caught.value) and f"model {model} failed" in str(caught.value)


async def test_a_proxy_s_password_is_hidden_and_common_words_are_not(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "HTTPS_PROXY": "name:proxy%20word@127.0.0.1:9",
        "REDIS_HOST": "http://a",
        "MODEL_API_URL": "http://name:pass%20word@b",
        "TOKENIZERS_PARALLELISM": "false",
        "MAX_TOKENS": "12345",
        "HUB_TOKEN": "recognisable",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = wrong("authentication_error", "proxy%20word, pass word, recognisable; banana, false, 12345")
    endpoint.script = lambda asked: Failure(401, body=told)
    with pytest.raises(EndpointError) as caught:
        await answer(CLAUDE)
    assert "…, …, …; banana, false, 12345" in str(caught.value)


async def test_a_provider_that_is_down_is_soon_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_BASE_URL", "OLLAMA_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for model in MODELS:
        with pytest.raises(EndpointError, match="3 times in a row") as caught:
            await answer(model)
        assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("model", MODELS)
async def test_a_budget_bounds_the_calls_of_every_provider(
    model: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({QWEN: {"input": 1, "output": 2}, CLAUDE: {"input": 1, "output": 2}}))
    monkeypatch.setenv("BILLP_PRICES", str(prices))
    monkeypatch.setenv("BILLP_REPLY_TOKENS", "123")
    forget_endpoints(monkeypatch)
    endpoint.script = in_words_of(model, drama)
    spent = multiprocessing.Value("d", 0.0)
    share_budget(Budget(0.0004, spent))
    try:
        await answer(model)
        assert spent.value == pytest.approx((40 + 2 * 6) / 1e6)
        spent.value = 0.0003
        with pytest.raises(BudgetSpentError):
            await answer(model)
    finally:
        share_budget(None)
    (asked,) = endpoint.asked
    assert (asked.body["max_tokens"] if model == CLAUDE else asked.body["options"]["num_predict"]) == 123


@pytest.mark.parametrize("word", ["num_predict", "max_tokens", "max_completion_tokens"])
async def test_a_limit_of_the_reply_that_a_provider_refuses_is_left_out(
    word: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({QWEN: {"input": 1, "output": 2}}))
    monkeypatch.setenv("BILLP_PRICES", str(prices))

    def script(asked: Asked) -> Reply | Failure:
        limited = "num_predict" in asked.body["options"]
        return Failure(400, body={"error": f"unknown option {word}"}) if limited else said_by_ollama(PLAN, asked)

    endpoint.script = script
    share_budget(Budget(1.0, multiprocessing.Value("d", 0.0)))
    try:
        assert (await answer(QWEN)).value.plan == "more drama"
    finally:
        share_budget(None)
    assert len(endpoint.asked) == 2


async def test_calls_that_start_together_share_a_model_built_outside_the_event_loop(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def made(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return _made(*given)

    dialect = ProviderDialect("ollama", "qwen2.5:7b", 0.5)
    monkeypatch.setattr("nodes.llm.endpoint.providers._made", made)
    options = {"temperature": 0.5, "max_tokens": 9}
    (first, _), (second, _) = await asyncio.gather(dialect.prepared(options), dialect.prepared(options))
    assert first is second is not dialect.model
    assert len(threads) == 1 and threads[0] is not threading.current_thread()


def test_a_model_is_built_once_as_soon_as_its_provider_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import langchain.chat_models

    built: list[dict[str, Any]] = []
    real: Any = langchain.chat_models.init_chat_model

    def counting(name: str, **given: Any) -> Any:
        built.append(given)
        return real(name, **given)

    dialect = ProviderDialect("ollama", "qwen2.5:7b", 0.5)
    monkeypatch.setattr(langchain.chat_models, "init_chat_model", counting)
    asyncio.run(dialect.prepared({"temperature": 0.25, "max_tokens": 9}))
    assert built == [{"model_provider": "ollama", "temperature": 0.25, "num_predict": 9}]


async def test_a_limit_a_minute_holds_for_all_models_of_a_provider(
    endpoint: Endpoint, turns: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLP_REQUESTS_PER_MINUTE", "60")
    forget_endpoints(monkeypatch)
    for model in (CLAUDE, "anthropic:another", QWEN):
        endpoint.script = in_words_of(QWEN if model == QWEN else CLAUDE, drama)
        await answer(model)
    # The second model of the first provider waits for its turn; the other provider has turns of its own.
    assert turns == [1.0]


async def test_two_event_loops_one_after_the_other_may_use_one_provider(endpoint: Endpoint) -> None:
    given = VisitInput(world="tiny", max_steps=2)
    for model in MODELS:
        endpoint.script = in_words_of(model, by_rules)
        context = Context(model=model)
        outputs = [await asyncio.to_thread(asyncio.run, visit("act_only", given, context)) for _ in range(2)]
        assert plain(outputs[0]) == plain(outputs[1])


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.llm.endpoint.providers._installed", lambda package: False)
    with pytest.raises(BadInputError, match="pip install langchain langchain-mistralai"):
        check_model("mistralai:mistral-small-latest")


@pytest.mark.parametrize("name", ["huggingface:gpt2", "anthropic:", "anthropic", "nobody:x"])
def test_other_names_are_no_models(name: str) -> None:
    with pytest.raises(BadInputError, match="there is no model"):
        check_model(name)


def test_every_provider_is_one_of_langchain() -> None:
    from langchain.chat_models import init_chat_model

    for provider, package in PROVIDER_PACKAGES.items():
        try:
            init_chat_model("m", model_provider=provider)
        except ImportError as error:
            assert package in str(error).replace("_", "-")
        except OpenAIError:
            # A key is missing.
            assert package == "langchain-openai"


@pytest.mark.parametrize(("key", "words"), [("", "needs ANTHROPIC_API_KEY"), ("“sk”", "^ANTHROPIC_API_KEY: .*curly")])
def test_a_key_that_is_missing_or_cannot_be_sent_is_told_at_once(
    key: str, words: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    with pytest.raises(BadInputError, match=words):
        chat_model(CLAUDE, 0.5)


def test_prices_are_those_of_the_provider() -> None:
    price = price_of(CLAUDE)
    assert price is not None and price.output > price.input > 0
    assert price_of(QWEN) is None
