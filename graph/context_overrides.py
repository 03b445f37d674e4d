"""Settings of the roles from the command line: `--set NAME=VALUE`."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from nodes.context import Context
from nodes.llm.models import check_model
from sim.errors import BadInputError

# Settings that a study chooses for each visit.
DECIDED_BY_STUDY = ("learn", "space")
PROMPT = "_prompt"


def context_of(
    model: str, assignments: Sequence[str], decided: Sequence[str] = (), schema: type[Context] = Context
) -> Context:
    """Return the settings of a run.

    Args:
        model: Model of all roles, unless an assignment names another.
        assignments: Settings as `NAME=VALUE`; a prompt may be given as `@FILE`.
        decided: Names that cannot be set here.
        schema: Class of the settings that can be set.

    Raises:
        BadInputError: A name is unknown or set twice, a value is invalid, no provider offers a model, or a file is not
            text.
        OSError: A file cannot be read.
    """
    given: dict[str, str] = {}
    for one in assignments:
        name, is_given, value = one.partition("=")
        _check_name(name.strip(), bool(is_given), {*given}, decided, schema)
        given[name.strip()] = _text_of(value) if name.strip().endswith(PROMPT) else value.strip()
    try:
        context = schema.model_validate({"model": model} | given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        source = f"--set {name}" if name in given else name
        raise BadInputError(f"{source}: {fault['msg']} (got {str(fault['input'])[:80]!r})") from error
    for name in context.models:
        check_model(name)
    return context


def _check_name(name: str, is_given: bool, before: set[str], decided: Sequence[str], schema: type[Context]) -> None:
    if not is_given:
        raise BadInputError(f"--set {name[:80]!r}: write NAME=VALUE")
    if name not in schema.model_fields:
        near = get_close_matches(name, schema.model_fields, n=3) or sorted(schema.model_fields)
        raise BadInputError(f"--set: there is no setting {name[:80]!r}: choose among {', '.join(near)}")
    if name in decided:
        raise BadInputError(f"--set {name}: a study sets this itself; leave it out")
    if name in before:
        raise BadInputError(f"--set {name} is given twice: give each setting once")


def _text_of(value: str) -> str:
    """Return a prompt; for `@FILE`, the text of the file."""
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{value[1:]} is not UTF-8 text: save the prompt as UTF-8") from error
