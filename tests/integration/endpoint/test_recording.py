"""Record and replay: exchanges in a file, visits and studies from it without a model."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from graph.study import run_study
from graph.study.settings import StudySettings
from nodes.context import Context
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.recording import QUOTING, RECORD, REPLAY, REPLAY_MISSING, use_record
from nodes.state import VisitInput
from sim.errors import BadInputError
from tests.commands import billp, refused
from tests.integration.endpoint.test_endpoint import QUICK, visit
from tests.integration.study.run_files import contents
from tests.integration.study.test_study_endpoint import silent
from tests.scripted import Asked, Endpoint, Reply, by_rules, serving

pytestmark = pytest.mark.usefixtures("home")
KEY = "sk-recognisable-key"
GIVEN = VisitInput(world="tiny", max_steps=3)
RECORDED = Path(__file__).with_name("recorded_study.jsonl")
# Settings of the recorded study. After a change of prompts, `python -m tests.integration.endpoint.record_study` records
# it again.
SMALL = StudySettings(
    world="tiny", variants=("billp",), train=2, test=2, cohort=2, max_steps=3, context=Context(model="openai:recorded")
)


def whimsical() -> Any:
    """Return a script that never gives a role the same reply twice."""
    calls = count()

    def reply(asked: Asked) -> Reply:
        number = next(calls)
        plain = json.loads(by_rules(asked).text)
        if asked.facts["role"] == "critic":
            plain["value"] = round(number % 90 / 20, 2)
        if asked.facts["role"] == "planner":
            plain["plan"] += f" (thought {number})"
        return Reply(json.dumps(plain), prompt_tokens=100 + number)

    return reply


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint that never gives the same reply twice."""
    with serving(whimsical()) as endpoint:
        for name, value in {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": KEY, **QUICK}.items():
            monkeypatch.setenv(name, value)
        # So that the variables that the options set are removed after the test.
        for name in (RECORD, REPLAY, REPLAY_MISSING, QUOTING):
            monkeypatch.setenv(name, "")
        shared_endpoint.cache_clear()
        yield endpoint
    shared_endpoint.cache_clear()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the endpoint and the record."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", RECORD, REPLAY, REPLAY_MISSING, QUOTING):
        monkeypatch.setenv(name, "")
    shared_endpoint.cache_clear()


async def test_a_visit_is_replayed_from_its_record_without_a_model(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "record.jsonl"
    use_record(file, None, "")
    # An unusable reply is recorded like others.
    first = iter([Reply("<think>so", finish="length")])
    script = endpoint.script
    endpoint.script = lambda asked: next(first, None) or script(asked)
    played = await visit(given=GIVEN, context=Context(model="openai:m", temperature=0.25))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == len(endpoint.asked) == played.usage.calls
    assert lines[0]["reply"] == "<think>so" and lines[0]["cut_off"] is True
    assert {name for line in lines for name in line["question"]} == {
        *("role", "round", "model", "temperature", "answer", "prompt"),
    }
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEY not in text and endpoint.url not in text and str(endpoint.port) not in text
    asked = len(endpoint.asked)
    offline(monkeypatch)
    use_record(None, file, "")
    assert await visit(given=GIVEN, context=Context(model="openai:m", temperature=0.25)) == played
    assert len(endpoint.asked) == asked


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"temperature": 0.75}, r"planner in round 1 \(nearest: planner, round 1, with temperature 0.25\)"),
        ({"model": "openai:other"}, r"planner in round 1 \(nearest: planner, round 1, with model openai:m\)"),
        ({"actor_prompt": "Choose boldly."}, r"actor in round 1 \(nearest: actor, round 1, which says '"),
    ],
)
async def test_a_question_without_a_recorded_reply_is_told_with_the_nearest_one(
    context: dict[str, Any], words: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "record.jsonl"
    use_record(file, None, "")
    usual: dict[str, Any] = {"model": "openai:m", "temperature": 0.25}
    await visit(given=GIVEN, context=Context(**usual))
    asked = len(endpoint.asked)
    monkeypatch.setenv(RECORD, "")
    use_record(None, file, "")
    with pytest.raises(BadInputError, match=f"holds no reply for the {words}.*--replay-missing call") as caught:
        await visit(given=GIVEN, context=Context(**usual | context))
    assert "\n" not in str(caught.value).partition("\nDuring task")[0] and len(endpoint.asked) == asked


async def test_a_server_quotes_no_recorded_prompt(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "record.jsonl"
    use_record(file, None, "")
    await visit(given=GIVEN, context=Context(model="openai:m", actor_prompt="Choose by my secret."))
    offline(monkeypatch)
    # A server is told by its environment alone.
    monkeypatch.setenv(REPLAY, str(file))
    with pytest.raises(BadInputError, match=r"nearest: actor, round 1, which has another prompt\)") as caught:
        await visit(given=GIVEN, context=Context(model="openai:m"))
    assert "my secret" not in str(caught.value)


async def test_missing_replies_are_asked_and_added(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "record.jsonl"
    use_record(file, None, "")
    await visit("act_only", GIVEN)
    *kept, last = file.read_text().splitlines()
    file.write_text("\n".join([*kept, ""]))
    asked = len(endpoint.asked)
    monkeypatch.setenv(RECORD, "")
    use_record(None, file, "call")
    again = await visit("act_only", GIVEN)
    assert len(endpoint.asked) == asked + 1
    assert [json.loads(line)["question"] for line in file.read_text().splitlines()][-1] == json.loads(last)["question"]
    use_record(None, file, "error")
    assert await visit("act_only", GIVEN) == again
    assert len(endpoint.asked) == asked + 1


@pytest.mark.slow
def test_a_replayed_study_has_the_same_bytes(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = SMALL.model_copy(update={"variants": ("billp", "act_only"), "seeds": 2, "train": 4})
    file = tmp_path / "record.jsonl"
    use_record(file, None, "")
    recorded = contents(run_study(settings, "s", concurrency=3, processes=2, progress=silent))
    assert len(file.read_text().splitlines()) == len(endpoint.asked)
    (tmp_path / "other").mkdir()
    offline(monkeypatch)
    monkeypatch.setenv("BILLP_HOME", str(tmp_path / "other"))
    use_record(None, file, "")
    asked = len(endpoint.asked)
    assert contents(run_study(settings, "s", concurrency=1, processes=1, progress=silent)) == recorded
    assert len(endpoint.asked) == asked


@pytest.mark.slow
def test_a_recorded_study_is_repeated_by_the_command(home: Path) -> None:
    options = ["--world", "tiny", "--variants", "billp", "--train", "2", "--test", "2", "--cohort", "2", "--out", "s"]
    model = ["--max-steps", "3", "--model", "openai:recorded", "--replay", str(RECORDED)]
    done = billp(home, "study", *options, *model, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["variant"] == "billp" and row["usage"]["calls"] > 0


def test_records_that_cannot_be_used_are_named(home: Path, tmp_path: Path) -> None:
    visit_ = ["episode", "--world", "tiny", "--model", "openai:m"]
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"reply": 1}\n')
    absent = str(tmp_path / "absent.jsonl")
    assert "does not exist: record it first with --record" in refused(billp(home, *visit_, "--replay", absent))
    assert "line 1 is no exchange of a record" in refused(billp(home, *visit_, "--replay", str(broken)))
    both = ["--record", absent, "--replay", str(broken)]
    assert "--record and --replay exclude each other" in refused(billp(home, *visit_, *both))
    assert "write call or error" in refused(
        billp(home, *visit_, "--replay", str(broken), "--replay-missing", "perhaps")
    )
    file = tmp_path / "file"
    file.touch()
    for unusable in (tmp_path, file / "below.jsonl"):
        said = refused(billp(home, *visit_, "--record", str(unusable)))
        assert f"{unusable} cannot be written" in said and "name another file" in said
    assert f"{tmp_path} cannot be read" in refused(billp(home, *visit_, "--replay", str(tmp_path)))
    assert "--replay-missing is for a replay" in refused(billp(home, *visit_, "--replay-missing", "call"))
