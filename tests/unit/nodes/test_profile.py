"""Profile of a person, made from stored statements."""

from memory.records import Statement, record
from nodes.state import Profile
from nodes.users.profile import stated


def text_after(*said: dict[str, str]) -> str:
    statements = [Statement(visit="v", user_id="u", number=number, **one) for number, one in enumerate(said)]
    return stated(Profile(), [record(one, one.number) for one in statements]).text


def test_a_correction_stored_before_comments_had_titles_removes_the_comment() -> None:
    comments = [{"said": "comment", "text": "too loud", "title": title} for title in ("Heat", "Alien")]
    correction = {"said": "correction", "removed": "too loud"}
    assert text_after(*comments, {"said": "wish", "text": "drama"}, correction) == "drama"


def test_a_correction_removes_no_other_line_than_the_one_it_names() -> None:
    comment = {"said": "comment", "text": "too loud", "title": "Heat"}
    plain = {"said": "wish", "text": "too loud"}
    assert text_after(comment, plain, {"said": "correction", "removed": "too loud"}) == "too loud [on Heat]"
