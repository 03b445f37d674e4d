"""Roles with a model at a real HTTP endpoint: requests, schemas, usage, faults, limits and settings."""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel
from tenacity import AsyncRetrying

from graph.checkpoints import serializer
from graph.episode import build_variant
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.actor import Choice
from nodes.context import Context
from nodes.critic import Judgement
from nodes.llm.endpoint.reply_schema import json_schema
from nodes.llm.endpoint.settings import EndpointError, shared_endpoint
from nodes.llm.models import chat_model
from nodes.llm.prompts import default_prompt
from nodes.planner import Plan
from nodes.prompt_facts import experience_facts, lesson_facts
from nodes.reflector import Insight
from nodes.state import VisitInput, VisitOutput
from nodes.tools.open_world import open_world_now
from sim.errors import BadInputError
from tests.scripted import Asked, Endpoint, Failure, Reply, Script, by_rules, serving, without_schemas

pytestmark = pytest.mark.usefixtures("home")
ROLES: dict[str, type[BaseModel]] = {"planner": Plan, "actor": Choice, "critic": Judgement, "reflector": Insight}
LLM = Context(model="openai:some-model")
TINY = VisitInput(world="tiny", max_steps=4)
THREAD: Any = {"configurable": {"thread_id": "t"}}
QUICK = {"BILLP_FIRST_WAIT": "0.001", "BILLP_LONGEST_WAIT": "1"}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint that answers like `rules`, with short waits after a failure."""
    with serving(by_rules) as endpoint:
        set_up(monkeypatch, OPENAI_BASE_URL=endpoint.url, **QUICK)
        yield endpoint
    shared_endpoint.cache_clear()


def set_up(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shared_endpoint.cache_clear()


async def visit(
    variant: str = "billp", given: VisitInput | None = TINY, context: Context = LLM, **compiled: Any
) -> VisitOutput:
    graph: Any = build_variant(variant).compile(**compiled)
    config = THREAD if "checkpointer" in compiled else None
    return VisitOutput.model_validate(await graph.ainvoke(given, config, context=context))


def plain(output: VisitOutput) -> Any:
    """Return a visit without its usage."""
    return output.model_dump(exclude={"usage": True, "steps": {"__all__": {"usage"}}})


def failing(failures: list[Reply | Failure], then: Script = by_rules) -> Script:
    """Return a script that starts with failures."""
    left = iter(failures)
    return lambda asked: next(left, None) or then(asked)


# Requests.


async def test_a_visit_behind_an_endpoint_is_the_visit_that_its_replies_make(endpoint: Endpoint) -> None:
    output = await visit()
    assert plain(output) == plain(await visit(context=Context()))
    assert [asked.facts["role"] for asked in endpoint.asked] == [
        *["planner", "actor", "critic"] * len(output.steps),
        "reflector",
    ]
    assert {asked.path for asked in endpoint.asked} == {"/v1/chat/completions"}
    assert output.usage.calls == len(endpoint.asked) and output.usage.retries == 0


async def test_each_role_asks_for_its_schema_in_the_strict_form(endpoint: Endpoint) -> None:
    await visit()
    assert {asked.facts["role"] for asked in endpoint.asked} == {*ROLES}
    for asked in endpoint.asked:
        schema = ROLES[asked.facts["role"]]
        assert asked.body["response_format"] == json_schema(schema)
        assert asked.body["response_format"]["json_schema"]["strict"] is True
        assert asked.schema is not None
        assert asked.schema["required"] == list(asked.schema["properties"]) == list(schema.model_fields)
        # Some servers refuse or misread these keywords.
        assert not {"pattern", "minLength", "maxLength", "minimum", "maximum"} & set(str(asked.schema).split("'"))


async def test_a_role_may_have_a_model_and_a_temperature_of_its_own(endpoint: Endpoint) -> None:
    context = Context(
        model="openai:all", temperature=0.25, critic_model="openai:judge", critic_temperature=0, planner_temperature=1.5
    )
    await visit(context=context)
    used = {asked.facts["role"]: (asked.body["model"], asked.body["temperature"]) for asked in endpoint.asked}
    assert used == {
        "planner": ("all", 1.5),
        "actor": ("all", 0.25),
        "critic": ("judge", 0),
        "reflector": ("all", 0.25),
    }


async def test_what_memory_recalls_stands_in_the_prompt_that_arrives(endpoint: Endpoint) -> None:
    train = open_world_now("tiny").world.split("train").users
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for user_id in train[:4]:
            await visit(given=VisitInput(world="tiny", user_id=user_id, max_steps=8), store=store)
        endpoint.asked.clear()
        saver = InMemorySaver(serde=serializer())
        graph: Any = build_variant("billp").compile(store=store, checkpointer=saver)
        seen: dict[str, list[Any]] = {"planner": [], "actor": []}
        facts: dict[str, Any] = {"lessons": lesson_facts, "experiences": experience_facts}
        async for update in graph.astream(TINY, THREAD, context=LLM, stream_mode="updates"):
            for role, key in (("planner", "lessons"), ("actor", "experiences")):
                if role in update:
                    seen[role].append(facts[key](update[role][key]))
    for role, key in (("planner", "lessons"), ("actor", "experiences")):
        told = [asked.facts[key] for asked in endpoint.asked if asked.facts["role"] == role]
        assert told == seen[role] and told[0] != []
    values = [asked.facts["values"] for asked in endpoint.asked if asked.facts["role"] == "critic"]
    assert values[0] != []


async def test_a_prompt_is_the_roles_template_and_one_block_about_this_visitor(endpoint: Endpoint) -> None:
    world = open_world_now("tiny").world
    dev = world.split("dev").users[1]
    await visit(given=VisitInput(world="tiny", user_id=dev, max_steps=3))
    history = [world.catalogue.item(item_id).title for item_id in world.users[dev].history][-10:]
    assert {asked.facts["role"] for asked in endpoint.asked} == {*ROLES}
    for asked in endpoint.asked:
        system, facts = asked.body["messages"]
        # No other messages, so no examples of former visits, and no data of a user in the template.
        assert (system["role"], facts["role"]) == ("system", "user")
        assert system["content"] == default_prompt(asked.facts["role"])
        assert [one["title"] for one in asked.facts["history"]] == history[-len(asked.facts["history"]) :]
        # What a role decides on takes five titles, what it only has to know of the user three.
        assert len(asked.facts["history"]) == (5 if asked.facts["role"] in ("planner", "reflector") else 3)


async def test_two_event_loops_one_after_the_other_use_one_model_each(endpoint: Endpoint) -> None:
    given = VisitInput(world="tiny", max_steps=2)
    first, second = [await asyncio.to_thread(asyncio.run, visit("act_only", given)) for _ in range(2)]
    assert first == second and first.usage.retries == second.usage.retries == 0


# Schemas, and replies without the schema's form.


async def test_a_server_without_schemas_is_found_out_once_and_asked_in_words_from_then_on(endpoint: Endpoint) -> None:
    endpoint.script = without_schemas(by_rules)
    output = await visit()
    assert len(endpoint.asked) == output.usage.calls + 1 and output.usage.retries == 0
    assert ["response_format" in asked.body for asked in endpoint.asked].count(True) == 1
    endpoint.asked.clear()
    assert plain(await visit()) == plain(output)
    assert not any("response_format" in asked.body for asked in endpoint.asked)
    # Another model on the same server may accept schemas.
    endpoint.script = by_rules
    endpoint.asked.clear()
    await visit(context=Context(model="openai:other"))
    assert all("response_format" in asked.body for asked in endpoint.asked)


async def test_a_model_without_a_temperature_is_asked_without_one(endpoint: Endpoint) -> None:
    def fixed(asked: Asked) -> Reply | Failure:
        if "temperature" in asked.body:
            return Failure(400, "Unsupported value: 'temperature' does not support 0.5 with this model.")
        return by_rules(asked)

    endpoint.script = fixed
    output = await visit()
    assert len(endpoint.asked) == output.usage.calls + 1
    assert all("response_format" in asked.body for asked in endpoint.asked)


async def test_a_complaint_that_names_a_parameter_by_chance_costs_no_parameter(endpoint: Endpoint) -> None:
    endpoint.script = failing([Failure(422, "bad request: {'temperature': 0.5, 'response_format': …}")] * 2)
    with pytest.raises(EndpointError, match="status 422"):
        await visit()
    endpoint.asked.clear()
    await visit()
    assert all({"response_format", "temperature"} <= asked.body.keys() for asked in endpoint.asked)


async def test_a_reply_cut_off_by_its_length_is_repaired_and_the_step_says_so(endpoint: Endpoint) -> None:
    def cut(asked: Asked) -> Reply:
        whole = by_rules(asked).text
        if asked.facts["role"] == "planner":
            return Reply(whole[:-2], finish="length")
        return Reply("Stop") if asked.facts["role"] == "critic" else Reply(whole)

    endpoint.script = cut
    output = await visit()
    *before, last = [step.outcomes for step in output.steps]
    usual = {"planner": "repaired", "actor": "ok", "critic": "fallback"}
    assert before == [usual] * len(before) and last == usual | {"reflector": "ok"}
    # The Critic is asked twice a round.
    assert {step.usage.calls for step in output.steps} == {4}


async def test_a_step_names_no_outcome_of_another_round() -> None:
    output = await visit("act_only", context=Context())
    assert {tuple(step.outcomes.items()) for step in output.steps} == {(("actor", "ok"),)}


# Usage.


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_what_the_provider_reports(endpoint: Endpoint, stream: bool) -> None:
    endpoint.script = lambda asked: Reply(
        by_rules(asked).text, prompt_tokens=1000, completion_tokens=7, cached_tokens=768
    )
    graph: Any = build_variant("billp").compile()
    modes = ["values", "messages"] if stream else ["values"]
    tokens = 0
    async for mode, chunk in graph.astream(TINY, context=LLM, stream_mode=modes):
        if mode == "values":
            output = VisitOutput.model_validate(chunk) if "length" in chunk else None
        else:
            tokens += 1
    assert output is not None
    assert all(asked.body.get("stream", False) is stream for asked in endpoint.asked)
    assert (tokens > len(endpoint.asked)) is stream
    calls = len(endpoint.asked)
    assert output.usage.model_dump() == {
        "calls": calls,
        "prompt_tokens": 1000 * calls,
        "completion_tokens": 7 * calls,
        "cost": 0.0,
        "cached_tokens": 768 * calls,
        "retries": 0,
    }
    assert {step.usage.cached_tokens for step in output.steps} == {3 * 768}


# Faults.


FAULTS: dict[str, Reply | Failure] = {
    "server error": Failure(500),
    "overloaded": Failure(503, headers={"retry-after": "0.01"}),
    "too many requests": Failure(429, headers={"retry-after-ms": "10"}),
    "retry at a date": Failure(429, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "dropped": Failure(),
    "cut": Reply('{"plan": "x"}' * 50, cut=True),
    "time-out": Failure(500, delay=30),
    "no reply": Failure(200, body={"choices": None}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_passing_fault_changes_nothing_of_a_visit(
    fault: str, stream: bool, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "time-out":
        set_up(monkeypatch, BILLP_CALL_SECONDS="2")
    undisturbed = plain(await visit(context=Context()))
    endpoint.script = failing([FAULTS[fault]] * 2)
    graph: Any = build_variant("billp").compile()
    async for mode, chunk in graph.astream(TINY, context=LLM, stream_mode=["values", "messages"][: 1 + stream]):
        if mode == "values" and "length" in chunk:
            output = VisitOutput.model_validate(chunk)
    assert plain(output) == undisturbed
    assert output.usage.retries == output.steps[0].usage.retries == 2
    assert output.usage.calls == len(endpoint.asked) - 2


async def test_a_reply_that_trickles_for_ever_is_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, BILLP_CALL_SECONDS="2")
    endpoint.script = failing([Reply("x" * 10_000, gap=0.05)])
    graph: Any = build_variant("act_only").compile()
    output: Any = {}
    given = VisitInput(world="tiny", max_steps=1)
    async for mode, chunk in graph.astream(given, context=LLM, stream_mode=["values", "messages"]):
        output = chunk if mode == "values" else output
    assert output["usage"].retries == 1


async def test_the_server_says_how_long_to_wait_and_otherwise_waits_grow(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("nodes.llm.endpoint.client.AsyncRetrying", partial(AsyncRetrying, sleep=wait))
    set_up(monkeypatch, BILLP_FIRST_WAIT="0.05")
    busy = Failure(429, headers={"retry-after": "0.4"})
    endpoint.script = failing([busy, Failure(500), Failure(500), Failure(500)])
    await visit("act_only", VisitInput(world="tiny", max_steps=1))
    assert len(waits) == 4 and 0.4 <= waits[0] < 1
    # Waits double from 0.05, and jitter takes off at most half: 0.1 after the second attempt, 0.4 after the fourth.
    assert 0.05 <= waits[1] <= 0.1 <= waits[2] <= 0.2 <= waits[3] <= 0.4


@pytest.mark.parametrize(
    ("failure", "words", "attempts"),
    [
        (Failure(401, "Incorrect API key"), "status 401", 1),
        (Failure(404, "no such model"), "status 404, .*no such model.*OPENAI_BASE_URL", 1),
        (Failure(400, "the prompt is too long"), "too long", 1),
        (Failure(501), "status 501", 1),
        (Failure(429, "insufficient_quota"), "insufficient_quota", 1),
        (Failure(429, headers={"retry-after": "3600"}), "asks to wait 3600 s.*BILLP_LONGEST_WAIT", 1),
        (Failure(500), "5 times in a row", 5),
        (Failure(), "Connection failed, .*5 times in a row", 5),
    ],
)
async def test_a_visit_that_cannot_go_on_ends_in_one_line_and_is_resumed_where_it_stopped(
    failure: Failure, words: str, attempts: int, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, BILLP_CALL_ATTEMPTS="5")
    saver = InMemorySaver(serde=serializer())
    calls = count()
    endpoint.script = lambda asked: failure if next(calls) >= 4 else by_rules(asked)
    with pytest.raises(EndpointError, match=words) as caught:
        await visit(checkpointer=saver)
    assert "\n" not in str(caught.value) and len(endpoint.asked) == 4 + attempts
    endpoint.script = by_rules
    output = await visit(given=None, checkpointer=saver)
    assert plain(output) == plain(await visit(context=Context()))
    # No answered question is asked again.
    assert len(endpoint.asked) == attempts + output.usage.calls


async def test_a_server_that_never_answered_is_soon_given_up(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    with pytest.raises(EndpointError, match="3 times in a row: check OPENAI_BASE_URL"):
        await visit()


async def test_a_visit_has_only_so_many_failures(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, BILLP_VISIT_RETRIES="5")
    every = count()
    endpoint.script = lambda asked: Failure(500) if next(every) % 2 else by_rules(asked)
    with pytest.raises(EndpointError, match="more than 5 attempts of this visit.*BILLP_VISIT_RETRIES"):
        await visit(given=VisitInput(world="tiny", max_steps=20))
    assert len(endpoint.asked) == 12


@pytest.mark.slow
async def test_of_200_visits_with_three_calls_in_ten_failing_none_is_lost(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, BILLP_CALL_SECONDS="2", BILLP_CALL_ATTEMPTS="20")
    draw = random.Random(0)
    ways = list(FAULTS.values())

    def mixed(asked: Asked) -> Reply | Failure:
        return draw.choice(ways) if draw.random() < 0.3 else by_rules(asked)

    users = open_world_now("tiny").world.split("train").users
    given = [VisitInput(world="tiny", user_id=users[n % len(users)], seed=n, max_steps=3) for n in range(200)]
    undisturbed = [await visit("act_only", one, Context()) for one in given]
    endpoint.script = mixed
    free = asyncio.Semaphore(20)

    async def one(visitor: VisitInput) -> VisitOutput:
        async with free:
            return await visit("act_only", visitor)

    outputs = await asyncio.gather(*map(one, given))
    assert [plain(output) for output in outputs] == [plain(output) for output in undisturbed]
    failed = sum(output.usage.retries for output in outputs)
    assert len(endpoint.asked) == failed + sum(output.usage.calls for output in outputs)
    assert 0.25 < failed / len(endpoint.asked) < 0.35


# Limits.


@pytest.mark.parametrize(("variable", "a_minute"), [("REQUESTS", 600), ("TOKENS", 60_000)])
async def test_calls_of_all_visits_together_keep_to_the_limit_a_minute(
    variable: str, a_minute: int, endpoint: Endpoint, turns: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, **{f"BILLP_{variable}_PER_MINUTE": str(a_minute)})
    endpoint.script = lambda asked: Reply(by_rules(asked).text, prompt_tokens=90, completion_tokens=10)
    given = VisitInput(world="tiny", max_steps=3)
    # A short prompt, so that the estimated tokens are close to the tokens that the server reports.
    context = Context(model="openai:x", actor_prompt="Choose.", shortlist_size=1, prompt_tokens=300)
    await asyncio.gather(*(visit("act_only", given, context) for _ in range(3)))
    assert len(endpoint.asked) == 9
    # One request or 100 tokens a call allow ten calls a second, one each 0.1 s; the first need not wait.
    assert max(turns) == pytest.approx(0.8, abs=0.1)


# Settings in the environment.


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OPENAI_BASE_URL": ""}, "needs OPENAI_API_KEY or OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "localhost:8080"}, "^OPENAI_BASE_URL: it is no address"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1/v1?key=hidden"}, "^OPENAI_BASE_URL: it must not contain"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:port/v1"}, "^OPENAI_BASE_URL: .*port is no number"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:99999/v1"}, "^OPENAI_BASE_URL: .*port is no number"),
        ({"OPENAI_API_KEY": "sk-hidden\n"}, "^OPENAI_API_KEY: .*a line break.*copy the key again"),
        ({"OPENAI_API_KEY": "“sk-hidden”"}, "^OPENAI_API_KEY: .*curly quote"),
        ({"OPENAI_ORG_ID": "hidden\norg"}, "^OPENAI_ORG_ID: .*a line break"),
        ({"HTTPS_PROXY": "ftp://127.0.0.1:1"}, "^HTTPS_PROXY names no proxy"),
        ({"all_proxy": "http://127.0.0.1:port"}, "^all_proxy names no proxy"),
        ({"SSL_CERT_FILE": "/no/such.pem"}, "^SSL_CERT_FILE names /no/such.pem, which does not exist"),
        ({"SSL_CERT_DIR": "/no/such"}, "^SSL_CERT_DIR names /no/such, which does not exist"),
        ({"BILLP_CALL_ATTEMPTS": "0"}, "^BILLP_CALL_ATTEMPTS: .*greater than or equal to 1"),
        ({"BILLP_TOKENS_PER_MINUTE": "many"}, "^BILLP_TOKENS_PER_MINUTE: "),
    ],
)
def test_an_environment_that_cannot_be_used_is_named(
    environment: dict[str, str], words: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, **environment)
    with pytest.raises(BadInputError, match=words) as caught:
        chat_model("openai:x", 0.5)
    assert "hidden" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_of_folders_of_certificates_may_name_one_that_is_missing(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up(monkeypatch, SSL_CERT_DIR=os.pathsep.join(["/no/such", str(tmp_path)]))
    chat_model("openai:x", 0.5)
    set_up(monkeypatch, SSL_CERT_DIR=os.pathsep.join(["/no/such", ""]))
    with pytest.raises(BadInputError, match="^SSL_CERT_DIR names /no/such"):
        chat_model("openai:x", 0.5)


def test_a_socks_proxy_without_its_package_is_named_with_the_cure(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    set_up(monkeypatch, ALL_PROXY="socks5://127.0.0.1:1080")
    with pytest.raises(BadInputError, match="^ALL_PROXY names a SOCKS proxy.*pip install socksio"):
        chat_model("openai:x", 0.5)


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "OPENAI_PROXY", "openai_proxy"])
async def test_a_proxy_is_used_and_nothing_says_that_it_is_not(
    variable: str, scheme: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(
        monkeypatch,
        OPENAI_BASE_URL="http://a.server.of.another.net/v1",
        **{variable: f"{scheme}127.0.0.1:{endpoint.port}"},
    )
    await visit("act_only", VisitInput(world="tiny", max_steps=1))
    assert {asked.path for asked in endpoint.asked} == {"http://a.server.of.another.net/v1/chat/completions"}
    assert not [record for record in caplog.records if "roxy" in record.getMessage()]


async def test_a_proxy_that_is_down_is_named(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(
        monkeypatch, OPENAI_BASE_URL="http://a.server.of.another.net/v1", HTTP_PROXY="http://name:hidden@127.0.0.1:9"
    )
    with pytest.raises(EndpointError, match=r"through the proxy of HTTP_PROXY\), 3 times in a row") as caught:
        await visit()
    assert "hidden" not in str(caught.value)
