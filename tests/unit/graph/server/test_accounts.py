"""Accounts of a server: valid and invalid BILLP_TOKENS, and the account of a request's token."""

import json

import pytest

from graph.server.accounts import AccountEntry, Accounts, AccountsError, configured_accounts

ANN, BOB = "a-token-of-24-characters", "another-of-24-characters"
GIVEN = json.dumps({ANN: {"name": "ann", "share": True}, BOB: "bob"})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_token_is_its_account_s_whatever_the_case_of_the_scheme(scheme: str) -> None:
    accounts = Accounts(GIVEN)
    assert accounts.holder(f"{scheme} {ANN}".encode()) == AccountEntry(name="ann", share=True)
    assert accounts.holder(f"{scheme}  {BOB} ".encode()) == AccountEntry(name="bob", share=False)


@pytest.mark.parametrize(
    "shown",
    [
        *(
            b"",
            b"Bearer",
            b"Bearer ",
            b"bearer\t",
            b"\xff",
            b"Bearer \xff",
            b"Bearer null",
            b"Bearer ann",
            b"Basic YW5u",
        ),
        *(ANN.encode(), b" " + ANN.encode(), f"Token {ANN}".encode(), f"Basic {ANN}".encode(), f"Bearer{ANN}".encode()),
        *(f"Bearer {ANN[:-1]}".encode(), f"Bearer {ANN}x".encode(), f"Bearer {ANN.upper()}".encode()),
        *(f"Bearer {ANN}, Bearer {BOB}".encode(), f"Bearer {ANN} {BOB}".encode(), f"Bearer {ANN}\0".encode()),
    ],
)
def test_anything_else_is_nobody_s(shown: bytes) -> None:
    assert Accounts(GIVEN).holder(shown) is None


def test_an_account_that_may_share_has_the_permission_and_no_other_has() -> None:
    assert AccountEntry(name="ann", share=True).permissions == ["share"] and AccountEntry(name="bob").permissions == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not set"),
        ("  ", "is not set"),
        ("{", "is not JSON"),
        (ANN, "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "not a JSON object"),
        ('"ann"', "not a JSON object"),
        ("null", "not a JSON object"),
        (json.dumps([[ANN, "ann"]]), "not a JSON object"),
        (json.dumps({"": "ann"}), "entry 1 must have 16"),
        (json.dumps({ANN: "ann", "too-short-token": "bob"}), "entry 2 must have 16"),
        (json.dumps({"x" * 501: "ann"}), "entry 1 must have 16"),
        (json.dumps({f"{ANN} {BOB}": "ann"}), "entry 1 must have 16"),
        (json.dumps({f"{ANN}é": "ann"}), "entry 1 must have 16"),
        (json.dumps({f"{ANN}\n": "ann"}), "entry 1 must have 16"),
        (f'{{"{ANN}": "ann", "{ANN}": "bob"}}', "entry 2 has the token of entry 1"),
        (json.dumps({ANN: "ann", BOB: "ann"}), "entry 2 has the name of entry 1"),
        (json.dumps({ANN: "ann", BOB: {"name": "ann", "share": True}}), "entry 2 has the name of entry 1"),
        (json.dumps({ANN: ""}), "entry 1 cannot be used (name: Value error, a name has 1 to"),
        (json.dumps({ANN: "x" * 501}), "a name has 1 to"),
        (json.dumps({ANN: "ann:bob"}), "no colon"),
        (json.dumps({ANN: "ann\0"}), "visible characters"),
        (json.dumps({ANN: "ann\n"}), "visible characters"),
        (json.dumps({ANN: " "}), "visible characters"),
        (json.dumps({ANN: " ann"}), "no blank at its ends"),
        (json.dumps({ANN: "*"}), "is not *"),
        (f'{{"{ANN}": "\\ud800"}}', "entry 1 cannot be used"),
        (json.dumps({ANN: 7}), "entry 1 cannot be used"),
        (json.dumps({ANN: None}), "entry 1 cannot be used"),
        (json.dumps({ANN: ["ann"]}), "entry 1 cannot be used"),
        (json.dumps({ANN: {}}), "entry 1 cannot be used (name: Field required"),
        (json.dumps({ANN: {"name": 7}}), "entry 1 cannot be used (name: "),
        (json.dumps({ANN: {"name": "ann", "share": "yes"}}), "entry 1 cannot be used (share: "),
        (json.dumps({ANN: {"name": "ann", "share": 1}}), "entry 1 cannot be used (share: "),
        (json.dumps({ANN: {"name": "ann", "shares": True}}), "entry 1 cannot be used (shares: "),
        (f'{{"{ANN}": {{"name": "ann", "share": false, "share": true}}}}', "entry 1 contains a key twice"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_without_its_token(text: str, why: str) -> None:
    with pytest.raises(AccountsError) as refused:
        configured_accounts({"BILLP_TOKENS": text})
    message = str(refused.value)
    assert why in message and "\n" not in message and len(message) < 500
    for token in (ANN, BOB, "too-short-token"):
        assert token not in message
    # Python prints the cause with an error, and pydantic's message contains the input.
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_without_the_variable_there_are_no_accounts() -> None:
    with pytest.raises(AccountsError, match="BILLP_TOKENS is not set: write"):
        configured_accounts({})


def test_no_token_is_kept_as_it_is_written() -> None:
    accounts = Accounts(GIVEN)
    assert ANN not in repr(vars(accounts)) and len(accounts) == 2
