"""Hostile requests to a server: a clear refusal at once, and the server keeps running."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.servers import serving

pytestmark = pytest.mark.slow

BIG = "x" * 10_000_000
SLOW = 1.0
"""Seconds from which a request is compared with a plain visit whose body is as long."""
MARGIN = 10
TRIES = 3
VISIT: dict[str, Any] = {"world": "tiny", "max_steps": 1}


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


INPUTS: list[tuple[Any, str]] = [
    ({"history": ["x"] * 100_000}, "100,000 titles"),
    ({"history": [f"{n} the of toy story heat " * 18 for n in range(1000)]}, "at most 50,000"),
    ({"history": [f"some film that is unknown, number {n}" for n in range(1000)]}, "no title of the history"),
    ({"history": [BIG]}, "longer than 500"),
    ({"history": BIG}, "history: "),
    ({"history": "Heat"}, "history: "),
    ({"history": [["Heat"]]}, "history: "),
    ({"world": "../../etc"}, "not a valid name of a world"),
    ({"world": "/etc/passwd"}, "not a valid name of a world"),
    ({"world": BIG}, "longer than 500"),
    ({"world": nested(500)}, "Recursion limit"),
    ({"max_steps": -5}, "max_steps is -5"),
    ({"max_steps": 10**12}, "max_steps is"),
    ({"seed": "seven"}, "seed: "),
    ({"seed": 10**400}, "Invalid JSON"),
    ({"user_id": {"$ne": ""}}, "user_id: "),
    ({"user_id": BIG}, "longer than 500"),
    ({"wordl": "tiny"}, "input: there is no field 'wordl': did you mean 'world'?"),
    ({"wishes": "comedy"}, "input: there is no field 'wishes': choose among world, user_id"),
    ({BIG: "tiny"}, "input: there is no field 'xxx"),
    ([1], "Expected dict"),
    ("x", "Expected dict"),
]
CONTEXTS: list[tuple[Any, str]] = [
    ({"model": "http://evil.example/v1"}, "model"),
    ({"model": "openai:http://evil.example/v1"}, "OPENAI_BASE_URL"),
    ({"model": f"openai:{BIG}"}, "model"),
    ({"model": nested(500)}, "Recursion limit"),
    ({"planner_prompt": BIG}, "at most 20000 characters"),
    ({"space": "people:tiny"}, "space"),
    ({"space": BIG}, "at most 64 characters"),
    ({"temperature": "NaN"}, "finite number"),
    ({"temperature": {"a": 1}}, "temperature"),
    ({"lessons_k": "many"}, "lessons_k"),
    ({"experiences_k": 10**9}, "experiences_k"),
    ({"share_memory": [1]}, "share_memory"),
    ({"modle": "rules"}, "context: there is no setting 'modle': did you mean 'model'?"),
    ({BIG: "rules"}, "context: there is no setting 'xxx"),
    ([1], "not of type"),
    ("rules", "not of type"),
]
BODIES: list[tuple[str, str]] = [
    ('{"assistant_id": "episode", "input": {"world": "tiny", "seed": NaN}}', "Invalid JSON"),
    ('{"assistant_id": "episode", "input": {}, "context": {"temperature": NaN}}', "Invalid JSON"),
    ('{"assistant_id": "episode", "input": {"world": "tiny", "user_id": "\\ud800"}}', "Invalid JSON"),
    ('{"assistant_id": "episode", "input": {"world": ' + "[" * 100_000 + "]" * 100_000 + "}}", "Invalid JSON"),
    ('{"assistant_id": "nobody", "input": {}}', "Invalid assistant"),
    ("{", "Invalid JSON"),
    ("[]", "not of type"),
]
REQUESTS = [
    *(
        (json.dumps({"assistant_id": "episode", "input": VISIT | given if isinstance(given, dict) else given}), why)
        for given, why in INPUTS
    ),
    (json.dumps({"assistant_id": "recommend", "input": VISIT | {"history": ["x"] * 100_000}}), "100,000 titles"),
    (json.dumps({"assistant_id": "recommend", "input": VISIT | {"user_id": BIG}}), "longer than 500"),
    (json.dumps({"assistant_id": "recommend", "input": VISIT | {"wishes": BIG}}), "the wishes have"),
    *((json.dumps({"assistant_id": "episode", "input": VISIT, "context": given}), why) for given, why in CONTEXTS),
    *BODIES,
]


@pytest.fixture(scope="module")
def url(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), built_home) as server:
        yield server.url


class Outcome(NamedTuple):
    """Result of a request."""

    seconds: float
    """Time that the server worked on the request."""
    error: str
    """Reason of the refusal or failure; empty after success."""


async def send(client: httpx.AsyncClient, body: str) -> Outcome:
    """Request a run. The wait in the queue is left out: `langgraph dev` looks for new runs twice a second."""
    sent = time.perf_counter()
    async with client.stream("POST", "/runs/stream", content=body) as response:
        accepted = time.perf_counter()
        if response.is_client_error:
            return Outcome(accepted - sent, (await response.aread()).decode())
        assert response.is_success
        begun, failed = accepted, False
        async for line in response.aiter_lines():
            if line == "event: metadata":
                begun = time.perf_counter()
            elif failed:
                return Outcome(accepted - sent + time.perf_counter() - begun, line)
            failed = line == "event: error"
        return Outcome(accepted - sent + time.perf_counter() - begun, "")


@pytest.mark.parametrize(("body", "why"), REQUESTS, ids=[f"{n}-{body[:90]}" for n, (body, _) in enumerate(REQUESTS)])
async def test_a_hostile_request_is_refused_as_fast_as_a_visit_runs_and_says_why(url: str, body: str, why: str) -> None:
    async with httpx.AsyncClient(
        base_url=url, timeout=60, headers={"content-type": "application/json"}, trust_env=False
    ) as client:
        outcome = await send(client, body)
        assert why in outcome.error and len(outcome.error) < 5000, outcome.error[:500]
        if outcome.seconds >= SLOW:
            # The machine may be busy, which slows a plain visit too.
            plain = json.dumps({"assistant_id": "episode", "input": VISIT}).ljust(len(body))
            pairs = [(await send(client, body), await send(client, plain)) for _ in range(TRIES)]
            assert min(one.seconds for one, _ in pairs) < MARGIN * min(other.seconds for _, other in pairs)
        assert (await client.get("/ok")).is_success


async def failure(client: httpx.AsyncClient, **run: Any) -> str:
    """Return the message of a run that fails."""
    answer = (await client.post("/runs/wait", json={"assistant_id": "episode", "input": VISIT} | run)).json()
    return str(answer["__error__"]["message"])


async def test_a_misspelt_setting_is_told_in_the_run_wherever_it_stands(url: str) -> None:
    told = "context: there is no setting 'modle': did you mean 'model'?"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        assert await failure(client, config={"configurable": {"modle": "rules"}}) == told
        for settings in ({"context": {"modle": "rules"}}, {"config": {"configurable": {"modle": "rules"}}}):
            made = (await client.post("/assistants", json={"graph_id": "episode", "name": "mine"} | settings)).json()
            assert await failure(client, assistant_id=made["assistant_id"]) == told
            right = {"context": {"lessons_k": 1}}
            await client.patch(f"/assistants/{made['assistant_id']}", json=right | {"config": {}})
            run = {"assistant_id": made["assistant_id"], "input": VISIT}
            assert (await client.post("/runs/wait", json=run)).json()["length_with_exit"] == 1


async def test_what_the_server_and_langsmith_add_is_no_misspelt_setting(url: str) -> None:
    headers = {
        "x-request-id": "1", "user-agent": "curl", "langsmith-trace": "20260101T000000000000Z" + "0" * 8,
        "baggage": "langsmith-project=p,langsmith-metadata=%7B%22a%22%3A1%7D,langsmith-tags=a,b",
        "traceparent": "00-1-1-01",
    }  # fmt: skip
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers=headers) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        for settings in (
            {"config": {"configurable": {"user_id": "ann", "lessons_k": 1, "thread_id": thread}}},
            {"context": {"lessons_k": 1}, "metadata": {"mine": 1}, "langsmith_tracer": {"project_name": "p"}},
        ):
            run = {"assistant_id": "episode", "input": VISIT} | settings
            output = (await client.post(f"/threads/{thread}/runs/wait", json=run)).json()
            assert output["length_with_exit"] == 1, output
        found = (await client.post("/assistants/search", json={"graph_id": "episode", "limit": 1})).json()
        schema = (await client.get(f"/assistants/{found[0]['assistant_id']}/schemas")).json()["context_schema"]
        assert schema["additionalProperties"] is False and "lessons_k" in schema["properties"]


async def test_an_unusable_answer_says_what_can_be_sent_and_the_question_stays(url: str) -> None:
    run = {"assistant_id": "recommend"}
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        where = f"/threads/{thread}/runs/wait"
        asked = (await client.post(where, json=run | {"input": VISIT | {"max_steps": 3}})).json()["__interrupt__"][0]
        for answer, told in (
            ("great film", "an answer is a mapping, and this is a text ('great film'): send one of"),
            ({"rating": 9}, "rating is a number from 1 to 5, and this is a number (9): send one of"),
            ({"ratting": 4}, "there is no part of an answer 'ratting': did you mean 'rating'? Send one of"),
        ):
            failed = (await client.post(where, json=run | {"command": {"resume": answer}})).json()["__error__"]
            assert failed["error"] == "BadAnswerError" and failed["message"].startswith(told)
            assert "pydantic" not in failed["message"] and "\n" not in failed["message"]
            state = (await client.get(f"/threads/{thread}/state")).json()
            assert state["tasks"][0]["interrupts"][0]["value"] == asked["value"]
        assert (await client.post(where, json=run | {"command": {"resume": {"rating": 4}}})).json()["__interrupt__"]


async def test_numbers_that_the_store_cannot_count_with_are_refused_with_what_is_allowed(url: str) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        *(("/store/items/search", {"namespace_prefix": ["lessons"], "limit": number}) for number in (2**63, 1e20, -1)),
        *(("/store/namespaces", {"limit": number}) for number in (2**63, 1e20, -1, 1.5)),
        *(("/store/namespaces", {"max_depth": number}) for number in (2**63, 1e20, -1, 1.5)),
    ]
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        for path, body in requests:
            answer = await client.post(path, json=body)
            assert answer.status_code == 422 and "has to be an integer from" in answer.json()["detail"]
        assert (await client.post("/store/namespaces", json={"limit": 10, "max_depth": 2})).is_success


async def test_no_page_empties_a_server_without_authentication_and_studio_reaches_it(url: str) -> None:
    studio = {"origin": "https://smith.langchain.com"}
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers=studio) as client:
        thread = (await client.post("/threads", json={})).json()["thread_id"]
        assert (await client.post("/internal/truncate")).status_code == 404
        assert (await client.get(f"/internal/debug/thread/{thread}")).status_code == 404
        for path in ("/", "/ok", "/info", "/docs", "/openapi.json", f"/threads/{thread}"):
            answer = await client.get(path)
            assert answer.is_success and answer.headers["access-control-allow-origin"] == "*", path
        assert "/runs/stream" in (await client.get("/openapi.json")).json()["paths"]


async def test_a_server_still_serves_after_all_that(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        output = (await client.post("/runs/wait", json={"assistant_id": "episode", "input": VISIT})).json()
    assert len(output["steps"]) == 1
