"""Errors of clients as faults, whatever form they have."""

import traceback
from typing import Any, ClassVar

import pytest

from nodes.llm.endpoint.complaints import MOST_READ, complaint
from nodes.llm.endpoint.errors import Fault, translated
from nodes.llm.endpoint.settings import CallLimits, Endpoint

KEY = "sk-recognisable"


class ClientError(Exception):
    """Error of a client with a status and a body."""

    def __init__(self, body: object) -> None:
        super().__init__(f"Bearer {KEY}")
        self.body = body
        self.status_code = 429


class UnreadableError(Exception):
    """Error of a client whose attributes cannot be read."""

    @property
    def response(self) -> Any:
        raise ValueError(f"Bearer {KEY}")


class MethodError(Exception):
    """Error of a client whose response has its text as a method."""

    status_code = 400
    body: ClassVar = {"error": {"message": "no such model"}}

    class response:  # noqa: N801 - the name of the attribute
        def text(self) -> str:
            raise NotImplementedError


def fault_of(error: Exception) -> Fault:
    with pytest.raises(Fault) as caught, translated(Endpoint(CallLimits(), [KEY], "check the key")):
        raise error
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "slow down", "details": [{"retryDelay": "1.2.3s"}]}},
        {"error": {"message": "slow down", "code": "1" * 5_000}},
        {"error": {"message": "slow down", "code": "٤٠٠"}},
    ],
)
def test_odd_numbers_in_a_body_are_no_numbers(body: dict[str, Any]) -> None:
    fault = fault_of(ClientError(body))
    assert (fault.passing, fault.wait) == (True, None)
    assert "status 429, slow down" in str(fault)


def test_status_and_wait_are_read_from_a_body() -> None:
    read = complaint({"error": {"code": "429", "details": [{"retryDelay": "1.5s"}]}})
    assert (read.status, read.wait) == (429, 1.5)


@pytest.mark.parametrize("tag", ["<title>", "<h1 ", "<"])
def test_a_page_of_unclosed_tags_is_soon_read(tag: str) -> None:
    # The search for a heading once took minutes for each of these.
    assert complaint({"error": "<html>" + tag * 100_000}).words.startswith("a web page")


def test_the_heading_of_a_page_is_quoted_without_its_markup() -> None:
    page = '<html><h1 class="big">Bad <b>gateway</b></h1><p>nginx</p>'
    assert complaint({"error": page}).words == "a web page, 'Bad gateway'"


def test_a_text_inside_a_body_is_cut_like_the_body() -> None:
    assert complaint({"error": "x" * (2 * MOST_READ)}).words == "x" * MOST_READ


def test_an_error_that_cannot_be_read_is_a_fault_without_secrets() -> None:
    fault = fault_of(UnreadableError(f"Bearer {KEY}"))
    assert (str(fault), fault.passing) == ("its error cannot be read, UnreadableError", True)


def test_a_text_that_is_a_method_is_not_read() -> None:
    assert str(fault_of(MethodError())) == "status 400, no such model"
