"""Which parts of the store an account may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.server.accounts import Account
from graph.server.store_access import RefusedRecordError, check_record, is_common, is_own, may_use
from memory.records import Lesson, escape, namespace, private_space

LESSON = Lesson(visit="v", user_id="1", situation="", text="stay", length=3, total_reward=9.0)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=":"), min_size=1).filter(
    lambda name: name != "*"
)
READ = ("get", "search", "list_namespaces")


@given(NAMES, NAMES, st.sampled_from(["tiny", "", "a.b", "50%"]))
def test_what_is_one_account_s_is_no_other_s_and_common_to_none(name: str, other: str, space: str) -> None:
    assert Account(name=name).name == name
    own = (
        namespace("profiles", f"people:{space}", name),
        namespace("lessons", f"account:{name}:{space}", "1"),
        namespace("lessons", f"account:{name}:{space}", other),
        ("lessons", escape(f"account:{name}:{space}")),
    )
    for labels in own:
        assert is_own(name, labels) and not is_common(labels)
        if name != other:
            assert not any(may_use(other, share, action, labels) for share in (True, False) for action in READ)
    for labels in (own[0][:2], own[0][:1], (), namespace("lessons", private_space(space), name)):
        assert not is_own(name, labels) and not is_common(labels)


@pytest.mark.parametrize("share", [True, False])
def test_common_spaces_are_read_and_written_by_those_who_may_share(share: bool) -> None:
    labels = ("lessons", "tiny", "1")
    assert all(may_use("ann", share, action, labels) is share for action in (*READ, "put"))
    assert all(may_use("ann", share, action, labels[:2]) is share for action in READ)
    # Deleting is for the operator, and an action that LangGraph may come to have for nobody.
    assert not any(may_use("ann", share, action, labels) for action in ("delete", "batch", "*"))
    assert not any(may_use("ann", share, action, ("lessons", "*")) for action in READ)


def test_one_s_own_is_read_and_deleted_and_not_written() -> None:
    for labels in (("profiles", "people:tiny", "ann"), ("lessons", "account:ann:tiny", "1")):
        assert all(may_use("ann", False, action, labels) for action in (*READ, "delete"))
        assert not may_use("ann", True, "put", labels)


def test_a_record_is_written_as_its_kind_has_it() -> None:
    request = {"namespace": ("lessons", "tiny", "1"), "key": "k", "value": LESSON.model_dump() | {"junk": "x"}}
    check_record(request)
    assert request["value"] == LESSON.model_dump() and request["index"] == ["text", "situation"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value": None}, "no kind of memory"),
        ({"value": {"kind": "profiles"}}, "no kind of memory"),
        ({"value": {"kind": "lessons"}}, "Field required"),
        ({"value": LESSON.model_dump() | {"text": "é" * 40_000}}, "at most 64,000 bytes"),
        ({"value": LESSON.model_dump() | {"user_id": "2"}}, "the namespace of a record"),
        ({"namespace": ("values", "tiny", "1")}, "the namespace of a record"),
        ({"namespace": ("lessons", "tiny")}, "the namespace of a record"),
        ({"namespace": ("lessons", "t" * 201, "1")}, "1 to 200 characters"),
        ({"key": ""}, "1 to 200 characters"),
        ({"key": "k" * 201}, "1 to 200 characters"),
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(RefusedRecordError, match=why):
        check_record({"namespace": ("lessons", "tiny", "1"), "key": "k", "value": LESSON.model_dump()} | change)
