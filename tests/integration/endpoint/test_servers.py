"""Servers as they are: refusals, errors, pages and roles in the form of each server, told in its own words."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from nodes.llm.endpoint.budget import Budget, share_budget
from nodes.llm.endpoint.settings import EndpointError, shared_endpoint
from nodes.llm.models import chat_model
from nodes.llm.structured_reply import Reply as Answer
from nodes.llm.structured_reply import ask
from nodes.llm.text.tokens import count_tokens
from tests.integration.endpoint.test_endpoint import QUICK, failing, set_up
from tests.scripted import Asked, Endpoint, Failure, Raw, Reply, Script, serving

HTML = {"content-type": "text/html"}
PROMPT = [SystemMessage("Plan."), HumanMessage('```json\n{"role": "planner"}\n```')]


class Plan(BaseModel):
    plan: str


def well(asked: Asked) -> Reply:
    return Reply('{"plan": "more drama"}')


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint with short waits after a failure."""
    with serving(well) as endpoint:
        set_up(monkeypatch, OPENAI_BASE_URL=endpoint.url, BILLP_CALL_ATTEMPTS="4", **QUICK)
        yield endpoint
    shared_endpoint.cache_clear()


async def answer(model: str = "openai:m", prompt: Any = PROMPT) -> Answer[Plan]:
    return await ask(chat_model(model, 0.5), prompt, Plan, fallback=lambda: Plan(plan=""))


def refusing(part: str, failure: Failure, then: Script = well) -> Script:
    """Return the script of a server that refuses a part of the body with a failure."""
    return lambda asked: failure if asked.body.get(part) is not None else then(asked)


# Refusals of a part of the request, by the server that words them so.
REFUSALS: dict[str, tuple[str, Failure]] = {
    "OpenAI, a reasoning model": (
        "temperature",
        Failure(
            400,
            body={
                "error": {
                    "message": "Unsupported value: 'temperature' does not support 0.5 with this model.",
                    "type": "invalid_request_error",
                    "param": "temperature",
                    "code": "unsupported_value",
                }
            },
        ),
    ),
    "Gemini": (
        "response_format",
        Failure(
            400,
            body=[
                {
                    "error": {
                        "code": 400,
                        "message": 'Invalid JSON payload received. Unknown name "additionalProperties" at '
                        "'generation_config.response_schema': Cannot find field.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
        ),
    ),
    "Groq": (
        "response_format",
        Failure(
            400,
            body={
                "error": {
                    "message": "Failed to generate JSON. Please adjust your prompt.",
                    "type": "invalid_request_error",
                    "code": "json_validate_failed",
                    "failed_generation": "",
                }
            },
        ),
    ),
    "OpenRouter": (
        "response_format",
        Failure(
            404,
            body={
                "error": {"message": "No endpoints found that can handle the requested parameters.", "code": 404},
                "user_id": "u",
            },
        ),
    ),
    "Mistral": (
        "response_format",
        Failure(
            422,
            body={
                "object": "error",
                "message": {
                    "detail": [{"type": "extra_forbidden", "loc": ["body", "response_format", "x"], "msg": "Extra"}]
                },
                "type": "invalid_request_error",
            },
        ),
    ),
    "vLLM": (
        "response_format",
        Failure(400, body={"object": "error", "message": "guided decoding is off", "code": 400}),
    ),
    "llama.cpp": (
        "response_format",
        Failure(500, body={"error": {"code": 500, "message": "failed to parse grammar", "type": "server_error"}}),
    ),
    "LM Studio": ("response_format", Failure(400, body={"error": "'response_format.type' must be 'json_object'"})),
    "a server in plain text": ("response_format", Failure(400, body="cannot do this", headers={"content-type": "t/p"})),
    "FastAPI": ("response_format", Failure(422, body={"detail": "Unprocessable"})),
}


@pytest.mark.parametrize("server", REFUSALS)
async def test_a_refused_part_is_left_out_and_the_server_remembered(server: str, endpoint: Endpoint) -> None:
    part, failure = REFUSALS[server]
    endpoint.script = refusing(part, failure)
    reply = await answer()
    assert (reply.value.plan, reply.outcome, reply.usage.retries) == ("more drama", "ok", 0)
    await answer()
    assert [asked.body.get(part) is not None for asked in endpoint.asked] == [True, False, False]


async def test_several_refused_parts_are_left_out_one_after_the_other(endpoint: Endpoint) -> None:
    without = refusing("response_format", Failure(400, body={"detail": "no"}))
    endpoint.script = refusing("temperature", Failure(400, body={"detail": "temperature: unsupported"}), without)
    assert (await answer()).value.plan == "more drama"
    assert len(endpoint.asked) == 3


async def test_a_schema_that_was_taken_is_not_given_up_for_one_prompt(endpoint: Endpoint) -> None:
    await answer()
    endpoint.script = failing([REFUSALS["Groq"][1]], well)
    assert (await answer()).outcome == "ok"
    endpoint.script = failing([Failure(400, body={"detail": "no"})], well)
    with pytest.raises(EndpointError, match="status 400, no"):
        await answer()
    await answer()
    sent = ["response_format" in asked.body for asked in endpoint.asked]
    # The words of the second failure do not name the schema, so it is not tried without.
    assert sent == [True, True, False, True, True]


# Errors that end a visit, and the words that tell them.
QUOTA = {
    "error": {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
ENDS: dict[str, tuple[Failure, str]] = {
    "OpenAI's quota": (Failure(429, body=QUOTA), "status 429, You exceeded.*insufficient_quota.*check the plan"),
    "OpenAI's key": (
        Failure(401, body={"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}),
        "status 401, Incorrect API key provided.*OPENAI_API_KEY",
    ),
    "Gemini's key": (
        Failure(400, body=[{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]),
        "status 400, API key not valid.*OPENAI_API_KEY",
    ),
    "a proxy's key": (
        Failure(500, body={"error": {"message": "Authentication Error, Invalid proxy server token", "code": "500"}}),
        "status 500, Authentication Error.*OPENAI_API_KEY",
    ),
    "Cloudflare's key": (
        Failure(400, body={"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}),
        r"Authentication error \(10000\)",
    ),
    "DeepSeek's credit": (
        Failure(402, body={"error": {"message": "Insufficient Balance"}}),
        "status 402, Insufficient Balance.*plan",
    ),
    "Mistral": (
        Failure(403, body={"message": {"detail": [{"loc": ["body", "model"], "msg": "not allowed", "type": "x"}]}}),
        "status 403, model: not allowed",
    ),
    "LM Studio without /v1": (
        Failure(200, body={"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
        "Unexpected endpoint or method.*OPENAI_BASE_URL",
    ),
    "OpenRouter's credit, inside status 200": (
        Failure(200, body={"error": {"code": 402, "message": "Insufficient credits"}}),
        "status 402, Insufficient credits.*plan",
    ),
    "OpenRouter's provider": (
        Failure(
            403,
            body={
                "error": {
                    "message": "Provider returned error",
                    "code": 403,
                    "metadata": {"raw": '{"error": {"message": "flagged"}}', "provider_name": "P"},
                }
            },
        ),
        "Provider returned error.*flagged",
    ),
    "a login page": (
        Failure(200, body="<!DOCTYPE html><html><title>Sign in &amp; go</title><p>x", headers=HTML),
        "it sent a web page, 'Sign in & go', in place of a reply.*OPENAI_BASE_URL",
    ),
    "nginx": (Failure(403, body="<html><h1>403 Forbidden</h1>", headers=HTML), "status 403, a web page, '403 Forb"),
    "no body": (Failure(403, body=""), "status 403, without a reason"),
    "Ollama": (Failure(404, body={"error": 'model "m" not found, try pulling it first'}), 'status 404, model "m" not'),
}


@pytest.mark.parametrize("server", ENDS)
async def test_an_error_that_lasts_is_told_in_the_words_of_the_server_after_one_attempt(
    server: str, endpoint: Endpoint
) -> None:
    failure, words = ENDS[server]
    endpoint.script = lambda asked: failure
    with pytest.raises(EndpointError, match=words) as caught:
        await answer()
    # One question more where the schema may be at fault.
    assert len(endpoint.asked) == 1 + (server == "Ollama")
    for name in ("Error code", "ValueError", "TypeError", "KeyError", "JSONDecodeError", "\n"):
        assert name not in str(caught.value)


MAY_PASS: dict[str, tuple[Failure, str]] = {
    "choices: null": (Failure(200, body={"choices": None}), r"no choices \(`choices` is null\)"),
    "no choices": (Failure(200, body={"choices": []}), r"no choices \(`choices` is empty\)"),
    "no message": (Failure(200, body={"choices": [{"index": 0}]}), r"no message \(`message` is null\)"),
    "text": (Failure(200, body="upstream connect error"), "no reply but 'upstream connect error'"),
    "empty": (Failure(200, body=""), "an empty body"),
    "OpenRouter, inside status 200": (
        Failure(200, body={"error": {"code": 502, "message": "Provider returned error"}}),
        "status 502, Provider returned error",
    ),
    "OpenRouter, inside a choice": (
        Failure(200, body={"choices": [{"error": {"code": 503, "message": "gone"}, "finish_reason": "error"}]}),
        "status 503, gone",
    ),
    "a limit a minute that Gemini calls a quota": (
        Failure(
            429,
            body={
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota, please check your plan and billing details.",
                    "details": [{"@type": "RetryInfo", "retryDelay": "0.01s"}],
                }
            },
        ),
        "status 429, You exceeded your current quota",
    ),
    "a page of a gateway": (Failure(502, body="<h1>502 Bad Gateway</h1><html>", headers=HTML), "502 Bad Gateway"),
}


@pytest.mark.parametrize("server", MAY_PASS)
async def test_an_error_that_may_pass_is_asked_again_and_told_by_what_came(server: str, endpoint: Endpoint) -> None:
    failure, words = MAY_PASS[server]
    endpoint.script = failing([failure] * 2, well)
    assert (await answer()).usage.retries == 2
    endpoint.script = lambda asked: failure
    with pytest.raises(EndpointError, match=f"{words}.*4 times in a row"):
        await answer()


async def test_a_page_is_no_lasting_error_of_a_server_that_answered_before(endpoint: Endpoint) -> None:
    await answer()
    endpoint.script = failing([Failure(200, body="<html><title>Restarting</title>", headers=HTML)], well)
    assert (await answer()).usage.retries == 1


async def test_a_long_reply_that_quotes_a_page_is_a_reply(endpoint: Endpoint) -> None:
    endpoint.script = lambda asked: Reply(json.dumps({"plan": "<html><title>no</title>" + "x" * 50_000}))
    assert (await answer()).outcome == "ok"


async def test_an_error_inside_a_stream_is_told_in_its_words(endpoint: Endpoint) -> None:
    error = {"error": {"code": 402, "message": "Insufficient credits"}, "choices": []}
    endpoint.script = lambda asked: Failure(
        200, body=f"data: {json.dumps(error)}\n\n", headers={"content-type": "text/event-stream"}
    )
    with pytest.raises(EndpointError, match="status 402, Insufficient credits"):
        await streamed(answer)
    assert len(endpoint.asked) == 1 and endpoint.asked[0].body["stream"] is True


@pytest.mark.parametrize("start", ["", "event: message\n", ": working\n\n"])
async def test_a_stream_without_its_type_is_read(start: str, endpoint: Endpoint) -> None:
    sent = pieces(piece('{"plan": '), piece('"more drama"}', finish_reason="stop"))
    endpoint.script = lambda asked: Raw(body=start + str(sent.body), headers={"content-type": "text/plain"})
    assert (await streamed(answer)).value.plan == "more drama"
    assert len(endpoint.asked) == 1


async def streamed(question: Callable[[], Any]) -> Any:
    """Ask inside a graph that streams tokens."""

    async def node(state: dict[str, Any]) -> dict[str, Any]:
        return {"reply": await question()}

    graph: Any = StateGraph(dict)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    last: Any = None
    async for mode, chunk in graph.compile().astream({}, stream_mode=["values", "messages"]):
        last = chunk if mode == "values" else last
    return last["reply"]


# Roles.


def in_turn(asked: Asked) -> Reply | Failure:
    """Answer as a server whose template wants user and assistant in turn, behind an optional system message."""
    roles = [message["role"] for message in asked.body["messages"]]
    turns = roles[roles[0] == "system" :]
    if turns != (["user", "assistant"] * len(turns))[: len(turns)]:
        return Failure(400, body={"message": "Conversation roles must alternate user/assistant/user/assistant/..."})
    return Reply("no JSON" if len(turns) == 1 else '{"plan": "more drama"}')


async def test_a_second_question_keeps_the_turns_that_templates_want(endpoint: Endpoint) -> None:
    endpoint.script = in_turn
    reply = await answer()
    assert (reply.value.plan, reply.outcome) == ("more drama", "asked_again")
    roles = [[message["role"] for message in asked.body["messages"]] for asked in endpoint.asked]
    assert roles == [["system", "user"], ["system", "user", "assistant", "user"]]
    assert endpoint.asked[1].body["messages"][2]["content"] == "no JSON"


@pytest.mark.parametrize(
    "refusal",
    [
        Failure(400, body={"object": "error", "message": "System role not supported", "code": 400}),
        Failure(500, body={"error": {"code": 500, "message": "Jinja: raise_exception: System role not supported"}}),
        Failure(400, body=[{"error": {"code": 400, "message": "Developer instruction is not enabled for gemma"}}]),
        Failure(400, body={"error": {"message": "'messages[0].role' does not support 'system' with this model."}}),
        Failure(400, body={"detail": "Only user and assistant roles are supported!"}),
    ],
)
async def test_without_a_system_role_its_text_goes_into_the_message_of_the_user(
    refusal: Failure, endpoint: Endpoint
) -> None:
    def gemma(asked: Asked) -> Reply | Failure:
        return refusal if asked.body["messages"][0]["role"] == "system" else well(asked)

    endpoint.script = gemma
    for _ in range(2):
        assert (await answer()).value.plan == "more drama"
    assert len(endpoint.asked) == 3
    for asked in endpoint.asked[1:]:
        (only,) = asked.body["messages"]
        assert (only["role"], only["content"]) == ("user", "\n\n".join(message.text for message in PROMPT))


# Streams and usage.


def pieces(*sent: dict[str, Any]) -> Raw:
    """Return a stream of pieces as they are sent."""
    text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in sent) + "data: [DONE]\n\n"
    return Raw(body=text, headers={"content-type": "text/event-stream"})


def piece(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice], **more}


SAID = '{"plan": "more drama"}'
COUNTED = (sum(count_tokens(message.text) for message in PROMPT), count_tokens(SAID), 0)
SHAPES: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "fractions": ({"prompt_tokens": 40.0, "completion_tokens": 6.4, "total_tokens": 46.4}, (40, 6, 0)),
    "texts": ({"prompt_tokens": "40", "completion_tokens": "6"}, (40, 6, 0)),
    "other names": ({"input_tokens": 40, "output_tokens": 6, "cache_read_input_tokens": 30}, (40, 6, 30)),
    "DeepSeek": ({"prompt_tokens": 40, "completion_tokens": 6, "prompt_cache_hit_tokens": 32}, (40, 6, 32)),
    "null details": ({"prompt_tokens": 40, "completion_tokens": 6, "prompt_tokens_details": None}, (40, 6, 0)),
    "absent": (None, COUNTED),
    "a list": ([40, 6], COUNTED),
    "no numbers": ({"prompt_tokens": "many", "completion_tokens": None}, COUNTED),
    "not finite": ({"prompt_tokens": 1e400, "completion_tokens": -3}, COUNTED),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
async def test_usage_of_any_shape_is_read_or_counted(shape: str, stream: bool, endpoint: Endpoint) -> None:
    given, tokens = SHAPES[shape]
    message = {"role": "assistant", "content": SAID}
    whole = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": given}
    streamed_ = pieces(piece(SAID), {**piece(""), "choices": [], "usage": given})
    endpoint.script = lambda asked: streamed_ if stream else Raw(body=whole)
    reply = await streamed(answer) if stream else await answer()
    usage = reply.usage
    assert (reply.outcome, usage.retries) == ("ok", 0)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == tokens


async def test_usage_in_each_piece_of_a_stream_is_counted_once(endpoint: Endpoint) -> None:
    def usage(reply: int) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 40, "completion_tokens": reply, "total_tokens": 40 + reply}}

    sent = [piece(text, **usage(2 * number)) for number, text in enumerate(['{"plan": ', '"more ', 'drama"}'], 1)]
    endpoint.script = lambda asked: pieces(*sent, {**piece(""), "choices": None, **usage(0)})
    found = (await streamed(answer)).usage
    assert (found.prompt_tokens, found.completion_tokens) == (40, 6)


async def test_a_server_without_usage_in_streams_is_asked_without(endpoint: Endpoint) -> None:
    endpoint.script = refusing("stream_options", Failure(400, body={"detail": [{"loc": ["body", "stream_options"]}]}))
    reply = await streamed(answer)
    assert (reply.value.plan, len(endpoint.asked)) == ("more drama", 2)
    assert "response_format" in endpoint.asked[1].body


async def test_a_limit_that_a_refusal_recommends_is_sent(endpoint: Endpoint) -> None:
    said = "Unsupported parameter: 'max_completion_tokens'. Use 'max_tokens' instead."
    endpoint.script = refusing("max_completion_tokens", Failure(400, said))
    share_budget(Budget(10.0, multiprocessing.Value("d", 0.0)))
    try:
        for _ in range(2):
            await answer("openai:gpt-4o-mini")
    finally:
        share_budget(None)
    assert ["max_tokens" in asked.body for asked in endpoint.asked] == [False, True, True]


@pytest.mark.parametrize("fields", [("max_completion_tokens",), ("max_completion_tokens", "max_tokens")])
async def test_a_refused_limit_of_the_reply_is_sent_under_its_older_name_and_else_left_out(
    fields: tuple[str, ...], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    script: Script = well
    for field in reversed(fields):
        detail = [{"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}]
        script = refusing(field, Failure(422, body={"message": {"detail": detail}}), script)
    endpoint.script = script
    spent = multiprocessing.Value("d", 0.0)
    share_budget(Budget(10.0, spent))
    try:
        assert (await answer("openai:gpt-4o-mini")).value.plan == "more drama"
    finally:
        share_budget(None)
    names = ("max_completion_tokens", "max_tokens")
    assert [[name for name in names if name in asked.body] for asked in endpoint.asked] == [
        ["max_completion_tokens"],
        ["max_tokens"],
        *([[]] if len(fields) == 2 else []),
    ]
    assert 0 < spent.value < 0.01
