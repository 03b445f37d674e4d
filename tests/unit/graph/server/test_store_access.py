"""Parts of the store that an account may use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.server.accounts import AccountEntry
from graph.server.store_access import RefusedRecordError, check_record, may_use
from memory.access import Account, is_shared
from memory.records import Lesson, account_space, escape, namespace, people_space, private_space

LESSON = Lesson(visit="v", user_id="1", situation="", text="stay", length=3, total_reward=9.0)
NAMES = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=":"), min_size=1).filter(
    lambda name: name != "*"
)
READ = ("get", "search", "list_namespaces")


@given(NAMES, NAMES, st.sampled_from(["tiny", "", "a.b", "50%"]))
def test_what_is_one_account_s_is_no_other_s_and_shared_with_none(name: str, other: str, space: str) -> None:
    assert AccountEntry(name=name).name == name
    of_account = account_space(name, space)
    own = (
        namespace("profiles", people_space(space), name),
        namespace("lessons", of_account, "1"),
        namespace("lessons", of_account, other),
        namespace("lessons", private_space(of_account), other),
        ("lessons", escape(of_account)),
    )
    for labels in own:
        assert Account(name).owns(labels) and not is_shared(labels)
        if name != other:
            for account in (Account(other), Account(other, shares=True)):
                assert not any(may_use(account, action, labels) for action in READ)
                assert not account.may_read(labels) and not account.may_write(labels)
    for labels in (own[0][:2], own[0][:1], (), (*own[0], "x"), namespace("lessons", private_space(space), name)):
        assert not Account(name).owns(labels) and not is_shared(labels) and not Account(name).may_read(labels)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("space", ["tiny", "private:tiny"])
def test_shared_spaces_are_read_and_written_over_http_by_those_who_may_share(share: bool, space: str) -> None:
    ann, labels = Account("ann", share), ("lessons", space, "1")
    assert all(may_use(ann, action, labels) is share for action in (*READ, "put"))
    assert all(may_use(ann, action, labels[:2]) is share for action in READ)
    # Only the operator may delete, and an action that a later LangGraph may add is refused.
    assert not any(may_use(ann, action, labels) for action in ("delete", "batch", "*"))
    assert not any(may_use(ann, action, ("lessons", "*")) for action in READ)
    # Visits of every account recall shared records.
    assert ann.may_read(("lessons", "tiny")) and ann.may_write(labels) is share


def test_one_s_own_is_read_and_deleted_and_not_written_over_http() -> None:
    for labels in (("statements", "people:tiny", "ann"), ("lessons", "account:ann:tiny", "1")):
        assert all(may_use(Account("ann"), action, labels) for action in (*READ, "delete"))
        assert not may_use(Account("ann", True), "put", labels)
        assert Account("ann").may_write(labels)


def test_a_record_is_written_as_its_kind_has_it() -> None:
    request = {"namespace": ("lessons", "tiny", "1"), "key": "k", "value": LESSON.model_dump() | {"junk": "x"}}
    check_record(request)
    assert request["value"] == LESSON.model_dump() and request["index"] == ["text", "situation"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value": None}, "unknown kind of memory"),
        ({"value": {"kind": "profiles"}}, "unknown kind of memory"),
        ({"value": {"kind": "lessons"}}, "Field required"),
        ({"value": LESSON.model_dump() | {"text": "é" * 40_000}}, "at most 10000 characters"),
        ({"value": LESSON.model_dump() | {"situation": "é" * 40_000}}, "at most 64,000 bytes"),
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
