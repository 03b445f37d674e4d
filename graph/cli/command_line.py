"""Command line as a text without credentials."""

import re
import shlex
from collections.abc import Iterable, Sequence

MASK = "…"
# Words in the name of an option or a setting whose value is secret.
_SECRET_WORDS = frozenset(
    ("auth", "authorization", "credential", "credentials", "key", "login", "pass", "password", "secret", "token")
)
# A name and password may hold any character, so all up to the last `@` of an address counts as both.
_LOGIN = re.compile(r"(?<=://).*@", re.DOTALL)
# A key may be in what follows the path of an address.
_QUERY = re.compile(r"(?<=://)([^?#]*)([?#]).*", re.DOTALL)


def command_line(arguments: Sequence[str], secret_settings: Iterable[str] = ()) -> str:
    """Return a command of `billp` as a shell takes it, with `…` in place of secrets.

    Secret are the name and password of an address, its query, and the values of options and settings that are named for
    a key, token or password.

    Args:
        arguments: Arguments after the name of the program.
        secret_settings: Names of further settings whose values are secret.

    Examples:
        >>> command_line(["study", "--server", "https://ann:pw@host/x", "--set", "search_key=k1"])
        'billp study --server https://…@host/x --set search_key=…'
    """
    named = frozenset(secret_settings)
    shown: list[str] = []
    follows = False
    for argument in arguments:
        if follows and not argument.startswith("--"):
            shown.append(MASK)
            follows = False
            continue
        # `--set=NAME=VALUE` too: all names before the last value count.
        *names, value = argument.split("=")
        secret = [number for number, name in enumerate(names) if _is_secret(name) or name.lstrip("-") in named]
        if secret:
            argument = "=".join([*names[: secret[0] + 1], MASK])
        follows = not names and argument.startswith("--") and _is_secret(value)
        shown.append(_without_login(argument))
    # Quoted only where a shell needs it; the mask is not ASCII, and needs none.
    return " ".join(["billp", *(one if _is_plain(one) else shlex.quote(one) for one in shown)])


def _is_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[-_.]", name.lower()))


def _without_login(argument: str) -> str:
    return _QUERY.sub(rf"\1\2{MASK}", _LOGIN.sub(f"{MASK}@", argument))


def _is_plain(argument: str) -> bool:
    letters = argument.replace(MASK, "x")
    return shlex.quote(letters) == letters
