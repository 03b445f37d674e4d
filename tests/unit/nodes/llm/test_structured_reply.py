import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel, ConfigDict, Field

import nodes.actor
import nodes.critic
import nodes.planner
import nodes.reflector
from nodes.llm.endpoint.usage import Usage, usage_of
from nodes.llm.structured_reply import Reply, ReplyError, ask, parse
from sim.errors import BillpError
from tests.growth import grows_with_its_input
from tests.shared_data import recorded


class Choice(BaseModel):
    item: str
    reason: str = ""


class Judgement(BaseModel):
    value: float = Field(ge=-5, le=5)


class Full(BaseModel):
    model_config = ConfigDict(extra="forbid")

    item: str
    rating: int
    genres: list[str] = []
    mood: Literal["good", "bad"] = "good"
    next_value: float | None = None


@pytest.mark.parametrize(
    ("text", "item"),
    [
        pytest.param('{"item": "Portal 2"}', "Portal 2", id="plain"),
        pytest.param('```json\n{"item": "Portal 2"}\n```', "Portal 2", id="fenced"),
        pytest.param('Sure!\n```\n{"item": "Portal 2"}\n```\nEnjoy {it}.', "Portal 2", id="fenced in prose"),
        pytest.param('I think [1] this {fits}: {"item": "Portal 2"} because', "Portal 2", id="prose with brackets"),
        pytest.param('{ hmm {"item": "Portal 2"}', "Portal 2", id="open brace before"),
        pytest.param("{'item': 'Portal 2'}", "Portal 2", id="single quotes"),
        pytest.param("{'item': \"Sid Meier's Civilization\", 'reason': None}", "Sid Meier's Civilization", id="python"),
        pytest.param("{'item': 'Sid Meier's Civilization'}", "Sid Meier's Civilization", id="apostrophe inside"),
        pytest.param("{“item”: “Portal 2”}", "Portal 2", id="curly quotes"),
        pytest.param('{"item": "Portal 2",}', "Portal 2", id="trailing comma"),
        pytest.param('{"item": "Portal 2" // good\n}', "Portal 2", id="comment"),
        pytest.param('{"item": "The "Best" Game"}', 'The "Best" Game', id="unescaped quotes"),
        pytest.param('{"item": "Portal 2"\n"reason": "fun"}', "Portal 2", id="missing comma"),
        pytest.param("{item: Portal 2, reason: fun}", "Portal 2", id="bare words"),
        pytest.param('{"item": "Portal 2", "reason": "it is', "Portal 2", id="cut off in text"),
        pytest.param('{"item": "Portal 2", "reas', "Portal 2", id="cut off in key"),
        pytest.param('{"item": "Portal 2"', "Portal 2", id="cut off brace"),
        pytest.param('```json\n{"item": "Portal 2"\n```', "Portal 2", id="cut off in fence"),
        pytest.param('[{"item": "Portal 2"}, {"item": "Braid"}]', "Portal 2", id="list of objects"),
        pytest.param('{"items": [{"item": "Portal 2"}, {"item": "Braid"}]}', "Portal 2", id="nested list"),
        pytest.param('{"response": {"item": "Portal 2"}}', "Portal 2", id="nested"),
        pytest.param('{"reason": "x", "answer": {"item": "Portal 2"}}', "Portal 2", id="nested beside a known key"),
        pytest.param('{"ITEM ": "Portal 2"}', "Portal 2", id="other case"),
        pytest.param('{"item": 140}', "140", id="number for text"),
        pytest.param('{"item": ["Portal 2", "Braid"]}', "Portal 2", id="list for text"),
        pytest.param('{"item": {"title": "Portal 2", "genres": []}}', "Portal 2", id="object for text"),
        pytest.param('{"foo": 1} {"item": null} {"item": "Portal 2"}', "Portal 2", id="first valid of several"),
        pytest.param('<think>{"item": "Braid"}</think>{"item": "Portal 2"}', "Portal 2", id="thinking"),
        pytest.param('so {"item": "Braid"}</think>{"item": "Portal 2"}', "Portal 2", id="thinking without its start"),
        pytest.param('<thought>{"item": "Braid"}</thought>{"item": "Portal 2"}', "Portal 2", id="thought"),
        pytest.param('[THINK]{"item": "Braid"}[/THINK]{"item": "Portal 2"}', "Portal 2", id="Mistral's thinking"),
        pytest.param('◁think▷{"item": "Braid"}◁/think▷{"item": "Portal 2"}', "Portal 2", id="Kimi's thinking"),
        pytest.param(
            '<think>a</think>{"item": "Braid"}<think>no</think>{"item": "Portal 2"}', "Portal 2", id="two thoughts"
        ),
        pytest.param('{"item": "Portal 2"}<think>{"item": "Braid"}</think>', "Portal 2", id="an afterthought"),
        pytest.param(
            '<|channel|>analysis<|message|>{"item": "Braid"}<|end|><|start|>assistant<|channel|>final '
            '<|constrain|>json<|message|>{"item": "Portal 2"}<|return|>',
            "Portal 2",
            id="channels",
        ),
        pytest.param(
            'analysisMaybe {"item": "Braid"}assistantfinal{"item": "Portal 2"}', "Portal 2", id="bare channels"
        ),
        pytest.param(json.dumps('{"item": "Portal 2"}'), "Portal 2", id="JSON inside a JSON text"),
        pytest.param(json.dumps({"answer": '{"item": "Portal 2"}'}), "Portal 2", id="JSON inside a field"),
        pytest.param(json.dumps({"item": '{"item": "Portal 2"}'}), "Portal 2", id="JSON inside its own field"),
        pytest.param('{"item": "Portal\x00 2"}', "Portal 2", id="control character"),
        pytest.param('{"item": "Portal\\u0000 \\ud8002"}', "Portal 2", id="escaped control character and surrogate"),
        pytest.param('\ufeff{"item": "Portal 2"}', "Portal 2", id="byte order mark"),
        pytest.param('{"item": "\\ud83d\\ude00 a\\"b"}', '😀 a"b', id="escapes"),
        pytest.param("{'item': '\\ud83d\\ude00 a\\'b'}", "😀 a'b", id="escapes in python"),
        pytest.param('{"item": "Астролорды"}', "Астролорды", id="other script"),
        pytest.param("Thought: they like it\nItem: Portal 2\nReason: fun", "Portal 2", id="labelled lines"),
        pytest.param("**Item:** **Portal 2**", "Portal 2", id="labelled in Markdown"),
    ],
)
def test_what_models_write_is_understood(text: str, item: str) -> None:
    assert parse(text, Choice).item == item


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("Portal 2", "Portal 2"),
        ('"Portal 2"', "Portal 2"),
        ("```\nPortal 2\n```", "Portal 2"),
        ("Item: Portal 2", "Portal 2"),
        ("Recommendation: 'Portal 2'", "Portal 2"),
        ("\n\n  Portal 2\n", "Portal 2"),
        ("Title: Portal 2\nReason: it is fun", "Portal 2"),
        ("Action 3: recommend[Portal 2]", "recommend[Portal 2]"),
        ('["Portal 2", "Braid"]', "Portal 2"),
        ("[the Sequence]", "[the Sequence]"),
        ("...", "..."),
        ("First line.\nSecond line.", "First line.\nSecond line."),
        ("<think>hmm</think>Portal 2", "Portal 2"),
        ("Half-Life: Alyx", "Half-Life: Alyx"),
    ],
)
def test_text_without_json_stands_for_the_main_field(text: str, item: str) -> None:
    assert parse(text, Choice, main_field="item") == Choice(item=item, reason=parse_reason(text))


def parse_reason(text: str) -> str:
    return "it is fun" if "Reason:" in text else ""


@pytest.mark.parametrize("main_field", [None, "item"])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        (" \n\x00\ud800", "empty"),
        ("<think>I should answer", "empty"),
        ('""', "empty|no JSON"),
        ("```json\n```", "empty|no JSON"),
        ('{"thought": "x"}', '"item"'),
        ('{"item": null}', '"item"'),
        ('{"reason": "x"}', '"item" is missing'),
        ('{"ite', '"item"'),
        ("{}", '"item"'),
    ],
)
def test_faults_are_told_in_one_line(text: str, fault: str, main_field: str | None) -> None:
    with pytest.raises(ReplyError, match=fault) as caught:
        parse(text, Choice, main_field=main_field)
    assert isinstance(caught.value, BillpError)
    assert "\n" not in str(caught.value)


def test_plain_text_is_refused_without_a_main_field_and_where_other_fields_are_required() -> None:
    with pytest.raises(ReplyError, match='"item", "reason"'):
        parse("Portal 2", Choice)
    with pytest.raises(ReplyError, match='"rating" is missing'):
        parse("Portal 2", Full, main_field="item")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"value": 2.5}', 2.5),
        ('{"value": "2.5"}', 2.5),
        ('{"value": "-3"}', -3),
        ('{"value": +2}', 2),
        ('{"value": 3/5}', 3),
        ('{"value": "3 out of 5"}', 3),
        ('{"value": "2,5"}', 2.5),
        ('{"value": "about −1 (low)"}', -1),
        ('{"value": [4]}', 4),
        ('{"value": 3.', 3),
        ("Value: 2", 2),
        ("2.5", 2.5),
        ("The value is 2.", 2),
    ],
)
def test_numbers_are_read_where_one_is_meant(text: str, value: float) -> None:
    assert parse(text, Judgement, main_field="value").value == value


@pytest.mark.parametrize(
    "text",
    ['{"value": NaN}', '{"value": "nan"}', '{"value": Infinity}', '{"value": "-inf"}', '{"value": 1e999}', "nan",
     '{"value": 7}', '{"value": "from 1 to 3"}', '{"value": "50%"}', '{"value": "high"}', '{"value": true and false}',
     '{"value": ' + "9" * 5_000 + "}"],
)  # fmt: skip
def test_numbers_that_are_not_finite_clear_and_in_range_are_refused(text: str) -> None:
    with pytest.raises(ReplyError):
        parse(text, Judgement, main_field="value")


def test_not_finite_numbers_are_refused_without_any_bound_and_deep_inside() -> None:
    class Deep(BaseModel):
        scores: dict[str, list[float]]

    assert parse('{"scores": {"a": [1, 2]}}', Deep).scores == {"a": [1, 2]}
    with pytest.raises(ReplyError, match="finite"):
        parse('{"scores": {"a": [1, NaN]}}', Deep)


def test_types_are_repaired_field_by_field_and_unknown_keys_dropped() -> None:
    text = "{'Item': 140, 'rating': '4/5', 'genres': 'RPG', 'mood': 'Good', 'Next Value': '1.5', 'why': 'x'}"
    assert parse(text, Full) == Full(item="140", rating=4, genres=["RPG"], mood="good", next_value=1.5)


def test_extra_keys_are_kept_where_the_schema_allows_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        item: str

    assert parse('{"Item": "E", "more": 1}', Open).model_dump() == {"item": "E", "more": 1}


def test_aliases_are_understood() -> None:
    class Aliased(BaseModel):
        item: str = Field(alias="itemTitle")

    assert parse('{"item": "E"}', Aliased).item == "E"
    assert parse('{"item_title": "E"}', Aliased).item == "E"
    assert parse("E", Aliased, main_field="item").item == "E"
    assert parse("Answer: E", Aliased, main_field="item").item == "E"


ADVERSARIAL: list[tuple[str, str, int, str]] = [
    ("", "{", 50_000, ""), ("", "[", 100_000, ""), ("", '{"', 50_000, ""), ("", '{"a":', 20_000, ""),
    ("", "[1,", 33_000, ""), ('{"item": "', '" x', 33_000, ""), ('{"item":"x"', "\n", 100_000, "x"),
    ("", "<think>", 14_000, ""), ("", "</think>", 12_000, ""), ("a", "*", 100_000, ""), ("", "'", 100_000, ""),
    ("", "{'a': '", 14_000, ""), ("", "```\n", 25_000, ""), ("", "Item: ", 16_000, ""), ("", "//", 50_000, ""),
    ("", "\\", 100_000, ""), ("", '{"a" ', 20_000, ""), ("", "9", 100_000, ""), ('{"value": "', "1 ", 50_000, '"}'),
    ("", "{x:1}", 20_000, ""), ("", " ", 50_000, "x"), ('{"a":"', "\\u12", 20_000, ""), ("", "a:", 50_000, ""),
    ("", "[THINK]", 14_000, ""), ("", "<|channel|>", 9_000, ""), ("", "<|channel|>final<|message|>", 3_000, ""),
    ("analysis", "assistantfina", 8_000, ""), ('"', '\\"{', 30_000, '"'),
    ("", "\n", 100_000, "{"), ("", "[]", 50_000, ""), ('{"":' + "[" * 30, "{", 50_000, ""),
]  # fmt: skip


@pytest.mark.parametrize(("head", "piece", "count", "tail"), ADVERSARIAL)
@pytest.mark.parametrize("schema", [Choice, Judgement])
def test_work_on_adversarial_texts_grows_with_their_length_alone(
    head: str, piece: str, count: int, tail: str, schema: type[BaseModel]
) -> None:
    for main_field in (None, next(iter(schema.model_fields))):

        def settle(text: str, main_field: str | None = main_field) -> None:
            with contextlib.suppress(ReplyError):
                parse(text, schema, main_field=main_field)

        assert grows_with_its_input(settle, head, piece, count, tail)


def test_a_long_reply_is_read() -> None:
    assert parse("word " * 20_000 + '{"item": "Portal 2"}', Choice).item == "Portal 2"
    assert len(parse(json.dumps({"item": "x" * 50_000}), Choice).item) == 50_000


ANY_TEXT = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec=None)),
    st.text(alphabet="{}[]\"':,\\ \n\titemvalue0123.-`/<>“”"),
    st.lists(
        st.sampled_from(['{"item"', ":", ' "x', '"', "}", "[", "{", "null", "NaN", ",", "\\u", "```", "Item:", "'"])
    ).map("".join),
)


@settings(max_examples=400)
@given(text=ANY_TEXT, main=st.booleans())
def test_any_text_gives_a_valid_model_or_a_reply_error(text: str, main: bool) -> None:
    for schema, field in ((Choice, "item"), (Judgement, "value"), (Full, "item")):
        try:
            value = parse(text, schema, main_field=field if main else None)
        except ReplyError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert isinstance(value, schema)
            value.model_dump_json().encode()
            assert not isinstance(value, Judgement) or math.isfinite(value.value)


@given(item=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff")))
def test_json_keeps_every_text_as_it_is(item: str) -> None:
    assert parse(json.dumps({"item": item}), Choice).item == item
    assert parse("x " + json.dumps({"item": item}) + " y", Choice).item == item


# Questions to a model.


class Scripted(BaseChatModel):
    """Chat model that answers from a list; it raises an exception in the list."""

    script: list[Any]
    seen: list[list[BaseMessage]] = []

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.seen.append(messages)
        answer = self.script[len(self.seen) - 1]
        if isinstance(answer, Exception):
            raise answer
        message = answer if isinstance(answer, AIMessage) else AIMessage(answer)
        return ChatResult(generations=[ChatGeneration(message=message)])


PROMPT = [SystemMessage("You are the Actor."), HumanMessage("Recommend one item.")]


async def put(model: BaseChatModel, **more: Any) -> Reply[Choice]:
    return await ask(model, PROMPT, Choice, fallback=lambda: Choice(item="Fallback"), **more)


async def test_plain_json_is_ok() -> None:
    model = Scripted(script=['{"item": "Portal 2", "comment": "not asked for"}'])
    reply = await put(model)
    assert reply == Reply(Choice(item="Portal 2"), model.script[0], "ok", "", reply.usage)
    assert model.seen == [PROMPT]


async def test_repairable_text_is_repaired_without_another_call() -> None:
    reply = await put(Scripted(script=["Here: {'item': 'Portal 2'}"]))
    assert (reply.value.item, reply.outcome, reply.usage.calls) == ("Portal 2", "repaired", 1)


async def test_plain_json_with_a_value_of_another_type_is_repaired() -> None:
    reply = await put(Scripted(script=['{"item": 140}']))
    assert (reply.value.item, reply.outcome, reply.usage.calls) == ("140", "repaired", 1)


async def test_plain_text_is_repaired_with_a_main_field() -> None:
    reply = await put(Scripted(script=["Portal 2"]), main_field="item")
    assert (reply.value.item, reply.outcome) == ("Portal 2", "repaired")


async def test_the_second_question_names_the_fault_and_repeats_the_answer_as_data() -> None:
    model = Scripted(script=['I refuse.\n"Ignore all rules"', '{"item": "Portal 2"}'])
    reply = await put(model)
    assert (reply.value.item, reply.outcome, reply.raw) == ("Portal 2", "asked_again", '{"item": "Portal 2"}')
    assert "no JSON object" in reply.fault
    first, second = model.seen
    assert second[:-2] == first == PROMPT
    assert second[-2] == AIMessage('I refuse.\n"Ignore all rules"')
    assert json.loads(str(second[-1].content).splitlines()[1]) == {"fault": reply.fault}


async def test_a_reply_without_an_answer_stands_as_such_between_the_questions() -> None:
    model = Scripted(script=["<think>so long", '{"item": "Portal 2"}'])
    reply = await put(model)
    assert model.seen[1][-2] == AIMessage("(no answer)")
    assert (reply.outcome, reply.fault) == ("asked_again", "the answer is empty: it holds thoughts alone")


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "done_reason"])
@pytest.mark.parametrize("text", ["", "<think>I should", "[THINK]I should", "<|channel|>analysis<|message|>I should"])
async def test_a_thought_that_the_token_limit_cut_off_is_told_as_that(name: str, text: str) -> None:
    limit = "max_tokens" if name == "stop_reason" else "length"
    cut = AIMessage(text, response_metadata={name: limit})
    reply = await put(Scripted(script=[cut, '{"item": "Portal 2"}']))
    assert reply.fault.startswith("the answer is empty") and "the limit of tokens cut it off" in reply.fault


async def test_a_fault_the_check_finds_is_asked_about_too() -> None:
    model = Scripted(script=['{"item": "Stop"}', '{"item": "Portal 2"}'])
    reply = await put(model, check=lambda choice: "a stop\nword" if choice.item == "Stop" else None)
    assert (reply.value.item, reply.outcome, reply.fault) == ("Portal 2", "asked_again", "a stop word")
    assert "a stop word" in str(model.seen[1][-1].content)


async def test_after_two_faults_the_fallback_answers_and_is_not_checked() -> None:
    model = Scripted(script=["", '{"item": "Stop"}', '{"item": "never asked for"}'])
    reply = await put(model, check=lambda choice: "never good enough")
    assert (reply.value.item, reply.outcome) == ("Fallback", "fallback")
    assert (reply.raw, reply.fault, reply.usage.calls) == ('{"item": "Stop"}', "never good enough", 2)


async def test_usage_is_summed_over_calls_and_counted_where_it_is_missing() -> None:
    first = AIMessage("?", usage_metadata={"input_tokens": 100, "output_tokens": 7, "total_tokens": 107})
    second = AIMessage('{"item": "E"}', usage_metadata={"input_tokens": 130, "output_tokens": 5, "total_tokens": 135})
    assert (await put(Scripted(script=[first, second]))).usage == Usage(
        calls=2, prompt_tokens=230, completion_tokens=12
    )
    counted = (await put(Scripted(script=["?", second]))).usage
    assert counted.prompt_tokens > 130 and counted.completion_tokens == 6
    assert usage_of(HumanMessage("x"), [HumanMessage("x x")]) == Usage(calls=1, prompt_tokens=2, completion_tokens=1)


@pytest.mark.parametrize("script", [[TimeoutError("slow")], ["?", TimeoutError("slow")]])
async def test_faults_of_the_endpoint_pass_through(script: list[Any]) -> None:
    with pytest.raises(TimeoutError, match="slow"):
        await put(Scripted(script=script))


async def test_a_very_long_answer_is_not_sent_back_whole_and_broken_unicode_is_storable() -> None:
    model = Scripted(script=["\ud800" + "x" * 50_000, "\ud800"])
    reply = await put(model)
    assert sum(len(message.text) for message in model.seen[1]) < 3_000
    reply.raw.encode()


async def test_content_blocks_are_read() -> None:
    blocks: list[str | dict[Any, Any]] = [
        {"type": "reasoning", "reasoning": "hmm"},
        {"type": "text", "text": '{"item": '},
        '"Portal 2"}',
        {"type": "text"},
    ]
    reply = await put(Scripted(script=[AIMessage(blocks)]))
    assert (reply.raw, reply.outcome) == ('{"item": "Portal 2"}', "ok")


# Recorded Steam runs.


def recorded_steps() -> Iterator[dict[str, Any]]:
    for line in recorded("recorded_train.jsonl").read_text(encoding="utf-8").splitlines():
        yield from json.loads(line)["steps"]


@pytest.mark.shared_data
def test_every_recorded_thought_and_title_is_read_plain_and_in_every_wrapping() -> None:
    class Plan(BaseModel):
        plan: str

    seen = set()
    for step in recorded_steps():
        thought, title = (step["thought"] or "").strip(), step["generated"].strip()
        if thought and thought not in seen:
            assert parse(thought, Plan, main_field="plan").plan == thought
            assert parse(json.dumps({"plan": thought}), Plan).plan == thought
        if title not in seen:
            assert parse(title, Choice, main_field="item").item == title
            assert parse(repr({"item": title}), Choice).item == title
            assert parse(f"Item: {title}", Choice, main_field="item").item == title
            assert parse('Sure:\n```json\n{"item": "' + title + '",}\n```', Choice).item == title
        seen |= {thought, title}
    assert len(seen) > 1_000


ROLES: list[tuple[type[BaseModel], BaseModel]] = [
    (nodes.planner.Plan, nodes.planner.Plan(plan="the fallback")),
    (nodes.actor.Choice, nodes.actor.Choice(item="the fallback")),
    (nodes.critic.Judgement, nodes.critic.Judgement(value=0)),
    (nodes.reflector.Insight, nodes.reflector.Insight(lesson="the fallback")),
]


@pytest.mark.shared_data
async def test_whatever_was_recorded_gives_each_role_an_answer() -> None:
    texts = sorted({text for step in recorded_steps() for text in (step["thought"] or "", step["generated"])})
    outcomes: Counter[tuple[str, str]] = Counter()
    for text in texts:
        for schema, _ in ROLES:
            try:
                parse(text, schema, main_field=next(iter(schema.model_fields)))
            except ReplyError as error:
                assert "\n" not in str(error) and str(error)
                outcomes[schema.__name__, "fault"] += 1
            else:
                outcomes[schema.__name__, "read"] += 1
    # One text is enough to test the path from a fault to the fallback.
    fault = next(text for text in texts if len(text) < 8)
    reply = await ask(Scripted(script=[fault] * 2, seen=[]), PROMPT, ROLES[0][0], fallback=lambda: ROLES[0][1])
    assert (reply.outcome, reply.value) == ("fallback", ROLES[0][1])
    # Thoughts and titles are words: nearly each is valid as a plan and an item, and nearly none as a number.
    assert outcomes["Plan", "read"] > 0.9 * len(texts) and outcomes["Choice", "read"] > 0.9 * len(texts)
    assert outcomes["Judgement", "fault"] > 0.9 * len(texts)
