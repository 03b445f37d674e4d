"""Rules of access to the store: which namespaces an account may read, delete and write in."""

from typing import Any

from pydantic import ValidationError

from memory.access import Account
from memory.records import Record, namespace, unescape
from sim.errors import BadInputError

# A record of the built-in kinds has some 2 kB.
MOST_BYTES = 64_000
LONGEST_LABEL = 200


class RefusedRecordError(BadInputError):
    """Raised where an account that may share writes something that is no record of a known kind."""


def may_use(account: Account, action: str, labels: tuple[str, ...]) -> bool:
    """Return whether an account may do something in a part of the store over HTTP.

    Its own records it reads and deletes; visits alone write them. One that may share reads and writes what all recall.

    Args:
        account: Who asks.
        action: `get`, `search`, `list_namespaces`, `put` or `delete`; any other is refused.
        labels: The namespace, or the prefix of those that are looked at.
    """
    own = account.owns(labels)
    if action in ("get", "search", "list_namespaces"):
        return own or (account.shares and account.may_read(labels))
    if action == "delete":
        return own
    return action == "put" and not own and account.may_write(labels)


def check_record(request: dict[str, Any]) -> None:
    """Check a record that is to be written, and leave of it in the request what its kind knows.

    Raises:
        RefusedRecordError: It is no record of a known kind, lies in a wrong namespace, or is too large.
    """
    labels = tuple(request["namespace"])
    if not all(0 < len(label) <= LONGEST_LABEL for label in (*labels, request["key"])):
        raise RefusedRecordError(f"a key and the labels of a namespace have 1 to {LONGEST_LABEL} characters")
    try:
        record = Record.model_validate({"key": request["key"], "value": request["value"]}).value
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise RefusedRecordError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"[:500]) from error
    if labels != namespace(record.kind, unescape(labels[1]), record.user_id):
        raise RefusedRecordError("the namespace of a record is (its kind, a space, its user_id)")
    if (size := len(record.model_dump_json().encode())) > MOST_BYTES:
        raise RefusedRecordError(f"a record has at most {MOST_BYTES:,} bytes, and this one {size:,}")
    request["value"] = record.model_dump(mode="json")
    request["index"] = list(record.indexed)
