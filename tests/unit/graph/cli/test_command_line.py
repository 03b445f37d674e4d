"""Command line without credentials: whole enough to be run again, and without a secret in any form."""

import shlex

import pytest

from graph.cli.command_line import MASK, command_line

SECRETS = ("sk-1234", "p@ss:w/rd", "ann")


def test_a_command_without_secrets_can_be_run_again() -> None:
    arguments = ["study", "--out", "a b", "--variants", "billp,./my roles.py:variant", "--set", "planner_prompt=@p.md"]
    assert shlex.split(command_line(arguments)) == ["billp", *arguments]
    arguments = ["study", "--set", "prompt_tokens=800", "--set", "shared_keys=3", "--server", "http://127.0.0.1:2024"]
    assert shlex.split(command_line(arguments)) == ["billp", *arguments]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--server", "https://ann:p@ss:w/rd@host:8/x"], f"--server https://{MASK}@host:8/x"),
        (["--server=https://ann@host"], f"--server=https://{MASK}@host"),
        (["--server", "https://host/x?token=sk-1234#sk-1234"], f"--server https://host/x?{MASK}"),
        (["--set", "search_api_key=sk-1234"], f"--set search_api_key={MASK}"),
        (["--set=search-token=a=sk-1234"], f"--set=search-token={MASK}"),
        (["--api-key", "sk-1234", "--train", "4"], f"--api-key {MASK} --train 4"),
        (["--api-key=sk-1234"], f"--api-key={MASK}"),
        (["--password", "--train", "4"], "--password --train 4"),
        (["--set", "door=sk-1234"], f"--set door={MASK}"),
    ],
)
def test_secrets_are_masked_in_every_form(arguments: list[str], shown: str) -> None:
    line = command_line(["study", *arguments], secret_settings=["door"])
    # A shell needs quotes around some of these characters.
    assert " ".join(shlex.split(line)) == f"billp study {shown}"
    assert not [secret for secret in SECRETS if secret in line]
