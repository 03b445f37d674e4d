"""Real language model, served on this machine, in every role: tests requests and replies, not the quality of play."""

import contextlib
import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from nodes.llm.local_server import LOCAL_MODEL, check_weights
from nodes.state import VisitOutput
from nodes.tools.open_world import open_world_now
from sim.errors import BadInputError
from tests.commands import billp, refused
from tests.processes import Command, line_of, run, started

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
BILLP = Path(sys.executable).with_name("billp")
WEIGHTS = ROOT / ".billp/models/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = f"openai:{LOCAL_MODEL}"
ROLES = ["planner", "actor", "critic", "reflector"]
ROUNDS = 3

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or not WEIGHTS.is_file(),
    reason="needs the extra `local` and the weights, which `make test` and `make local-model` fetch",
)

# Program that runs one visit in a process of its own. The last exchange of each role is only in the state.
VISIT = """
import asyncio, json, sys
from langgraph.checkpoint.memory import InMemorySaver
from graph.checkpoints import serializer
from graph.episode import build_variant
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput

async def main(given, context):
    graph = build_variant("billp").compile(store=ChromaStore(), checkpointer=InMemorySaver(serde=serializer()))
    config = {"configurable": {"thread_id": "t"}}
    output = await graph.ainvoke(VisitInput(**given), config, context=Context(**context))
    exchange = (await graph.aget_state(config)).values["exchange"]
    output |= {"exchange": {role: one.model_dump() for role, one in exchange.items()}}
    print(json.dumps(output, default=lambda part: part.model_dump(mode="json")))

asyncio.run(main(**json.loads(sys.argv[1])))
"""


@contextmanager
def serving(log: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve the model on a free port, and yield its address and process."""
    command: Command = [BILLP, "local-model", WEIGHTS, "--port", "0"]
    with (
        log.open("w") as errors,
        started(command, signal.SIGKILL, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        # If the server does not start, the process ends and this read returns.
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", line_of(process))
        assert found, log.read_text()
        yield found[0], process


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server, set in the environment of the processes that a test starts."""
    with serving(tmp_path / "log") as (address, _):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield address


def read(*command: str | Path) -> Any:
    done = run(command, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def visit(user_id: str) -> dict[str, Any]:
    # Temperature 0 makes the replies repeatable; few candidates make the prompts short.
    given = {"world": "tiny", "user_id": user_id, "max_steps": ROUNDS}
    context = {"model": MODEL, "temperature": 0, "prompt_tokens": 600, "shortlist_size": 5}
    output: dict[str, Any] = read(sys.executable, "-c", VISIT, json.dumps({"given": given, "context": context}))
    return output


def written(address: str) -> int:
    """Return the number of tokens that the server generated."""
    metrics = httpx.get(address.removesuffix("/v1") + "/metrics", trust_env=False).text
    found = re.search(r"^llamacpp:tokens_predicted_total (\d+)", metrics, re.MULTILINE)
    assert found, metrics
    return int(found[1])


@needs_model
def test_a_real_model_plays_every_role_of_a_whole_visit_and_results_name_it(home: Path, address: str) -> None:
    # A user may happen to leave before the last round, so try up to three users.
    for user_id in open_world_now("tiny").world.split("dev").users[:3]:
        before = written(address)
        output = visit(user_id)
        if len(output["steps"]) == ROUNDS:
            break
    told = VisitOutput.model_validate({key: value for key, value in output.items() if key != "exchange"})
    check_visit(told, output["exchange"], written(address) - before)
    check_results(home)


def check_visit(output: VisitOutput, exchange: dict[str, Any], tokens: int) -> None:
    assert len(output.steps) == output.length_with_exit == ROUNDS
    assert output.length == ROUNDS - output.left
    assert len({step.item_id for step in output.steps}) == ROUNDS
    for step in output.steps:
        assert step.plan and step.title and 1 <= step.reward <= 5
        assert step.next_value is not None and step.advantage is not None
        # At least one reply is usable, because the schema in the request keeps the model to its form.
        assert set(step.outcomes.values()) != {"fallback"}
        # Planner, Actor and Critic are each asked at most twice.
        assert 3 <= step.usage.calls <= 6
    # The count of the server itself.
    assert output.usage.completion_tokens == tokens > 0
    assert output.usage.prompt_tokens > 100 * output.usage.calls
    assert sorted(exchange) == sorted(ROLES)
    for role in ROLES:
        assert exchange[role]["reply"].strip(), role


def check_results(home: Path) -> None:
    few = ["--world", "tiny", "--variants", "act_only", "--train", "0", "--test", "1", "--max-steps", "1"]
    results = read(BILLP, "study", "--out", "local", *few, "--model", MODEL, "--processes", "1", "--json")
    assert json.loads((home / "runs/local/results.json").read_text()) == results
    assert results["settings"]["context"]["model"] == MODEL


@needs_model
def test_the_server_ends_at_once_though_it_has_much_to_read(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as (address, process):
        question = {"messages": [{"role": "user", "content": "Tell me more about it. " * 1000}]}
        # The server then reports the start of reading.
        streamed = question | {"stream": True, "return_progress": True}
        url = f"{address}/chat/completions"
        with httpx.stream("POST", url, json=streamed, timeout=60, trust_env=False) as reply:
            lines = reply.iter_lines()
            heard = [next(lines)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(180) == 0
            with contextlib.suppress(httpx.TransportError):
                heard.extend(lines)
    # The server did not read on to the end of the prompt before it stopped.
    read_so_far = [json.loads(one.partition(": ")[2])["prompt_progress"] for one in heard if "prompt_progress" in one]
    assert read_so_far[-1]["processed"] < read_so_far[-1]["total"]


@needs_model
def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as (address, _):
        port = address.removesuffix("/v1").rpartition(":")[2]
        done = run([BILLP, "local-model", WEIGHTS, "--port", port])
    assert refused(done).startswith(f"billp: port {port} ")


def test_weights_that_are_missing_or_others_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="make local-model"):
        check_weights(tmp_path / "none.gguf")
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF of another kind")
    with pytest.raises(BadInputError, match="not opened"):
        check_weights(other)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'billp[local]'" in refused(billp(tmp_path / "home", "local-model", "weights.gguf"))
