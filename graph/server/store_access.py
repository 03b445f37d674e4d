"""Access rules of the store: the namespaces that an account may read, delete and write."""

from typing import Any

from pydantic import ValidationError

from memory.access import Account
from memory.records import Record, namespace, unescape
from sim.errors import BadInputError

# A record of the built-in kinds has some 2 kB.
MOST_BYTES = 64_000
LONGEST_LABEL = 200


class RefusedRecordError(BadInputError):
    """Raised when an account that may share writes a value that is not a record of a known kind."""


def may_use(account: Account, action: str, labels: tuple[str, ...]) -> bool:
    """Return whether an account may use a namespace of the store over HTTP.

    An account may read and delete its own records, which only visits write. An account that may share may also read and
    write the shared records.

    Args:
        account: Account of the request.
        action: `get`, `search`, `list_namespaces`, `put` or `delete`; any other is refused.
        labels: The namespace, or the prefix of the listed namespaces.
    """
    own = account.owns(labels)
    if action in ("get", "search", "list_namespaces"):
        return own or (account.shares and account.may_read(labels))
    if action == "delete":
        return own
    return action == "put" and not own and account.may_write(labels)


def check_record(request: dict[str, Any]) -> None:
    """Check a record before it is written, and reduce it in the request to the fields of its kind.

    Raises:
        RefusedRecordError: The value is not a record of a known kind, has a wrong namespace, or is too large.
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
