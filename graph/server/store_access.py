"""Rules of access to the store: which namespaces an account may read, delete and write in."""

from typing import Any

from pydantic import ValidationError

from memory.records import Record, escape, namespace, unescape

# A record of the built-in kinds has some 2 kB.
MOST_BYTES = 64_000
LONGEST_LABEL = 200
PEOPLE = "people:"


class RefusedRecordError(ValueError):
    """Raised where an account that may share writes something that is no record of a known kind."""


def is_own(name: str, labels: tuple[str, ...]) -> bool:
    """Say whether all records below a prefix are an account's own.

    These are a person's records, `(KIND, people:SPACE, NAME)`, and what the account's simulated visits taught,
    `(KIND, account:NAME:SPACE, USER)`.
    """
    if not 2 <= len(labels) <= 3:
        return False
    if labels[1].startswith(escape(f"account:{name}:")):
        return True
    return labels[1].startswith(PEOPLE) and labels[2:] == (escape(name),)


def is_common(labels: tuple[str, ...]) -> bool:
    """Say whether all records below a prefix are in a space that visits of all accounts recall.

    Every other space has a colon in its name: `people:`, `private:` and `account:`. In a listing `*` is any label.
    """
    return 2 <= len(labels) <= 3 and ":" not in labels[1] and labels[1] != "*"


def may_use(name: str, share: bool, action: str, labels: tuple[str, ...]) -> bool:
    """Say whether an account may do something in a part of the store.

    Args:
        name: Name of the account.
        share: Whether it may write memories that others recall.
        action: `get`, `search`, `list_namespaces`, `put` or `delete`; any other is refused.
        labels: The namespace, or the prefix of those that are looked at.
    """
    if action in ("get", "search", "list_namespaces"):
        return is_own(name, labels) or (share and is_common(labels))
    if action == "delete":
        return is_own(name, labels)
    return action == "put" and share and is_common(labels)


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
