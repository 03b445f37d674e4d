"""Settings of the roles from outside: `--set NAME=VALUE` of the command line, context and configurable of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langgraph.constants import CONF
from pydantic import BaseModel, ValidationError

from nodes.context import Context, check_names
from nodes.llm.models import check_model
from nodes.state import first_fault
from sim.errors import BadInputError
from sim.near_names import unknown_name

# Settings that a study chooses for each visit.
DECIDED_BY_STUDY = ("learn", "space")
PROMPT = "_prompt"
# Names in `configurable` that LangGraph, its server, LangSmith and `billp_tool` read. The server copies all that a
# client puts there into the context.
NOT_SETTINGS = frozenset(
    ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "user_id")
    + ("assistant_id", "graph_id", "cron_id", "user-agent", "baggage", "traceparent", "tracestate")
)
NOT_SETTINGS_FROM = ("__", "langgraph_", "langsmith-", "x-")
# Key that LangGraph's server sets itself and takes out of requests.
_SERVED = "langgraph_request_id"
# Key of the metadata in runs that a node of another graph starts, here or by `RemoteGraph`.
_OF_NODE = "langgraph_node"


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
        raise BadInputError(f"--set: {unknown_name(name, schema.model_fields, 'setting')}")
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


def run_settings(schema: type[Context], given: object, config: RunnableConfig) -> object:
    """Return the context of a run, checked; a context that is no mapping unchanged.

    A node of another graph passes on that graph's context, where names that are no settings belong to others.

    Raises:
        BadInputError: A name in the context, or in the configurable of a run in this process, is unknown; or a value is
            invalid.
    """
    configurable = {name for name in config.get(CONF, {}) if not _is_foreign(name)}
    if configurable and not _is_of_node(config) and _SERVED not in config[CONF]:
        name = min(configurable, key=lambda one: (one in schema.model_fields, one))
        if name in schema.model_fields:
            raise BadInputError(f"configurable: {name!r} is a setting: give it in `context`")
        raise BadInputError(
            f"configurable: {unknown_name(name, schema.model_fields, 'setting')} Settings go into `context`, data of "
            "your own into `metadata`"
        )
    if not isinstance(given, Mapping):
        return given
    own = {name: value for name, value in given.items() if name in schema.model_fields or not _is_foreign(name)}
    if _is_of_node(config):
        own = {name: value for name, value in own.items() if name in schema.model_fields}
    check_names(own, schema, "context", "setting")
    try:
        return schema.model_validate(own)
    except ValidationError as error:
        raise BadInputError(f"context: {first_fault(error)}") from error


def check_run_input(schema: type[BaseModel], given: object, config: RunnableConfig) -> None:
    """Check the names in the input of a run. A node of another graph passes on all of that graph's state.

    Raises:
        BadInputError: A name is unknown.
    """
    if isinstance(given, Mapping) and not _is_of_node(config):
        check_names(given, schema, "input", "field")


def _is_foreign(name: object) -> bool:
    """Return whether a name in `configurable` is of LangGraph, its server or LangSmith."""
    return name in NOT_SETTINGS or str(name).startswith(NOT_SETTINGS_FROM)


def _is_of_node(config: RunnableConfig) -> bool:
    """Return whether a node of another graph starts the run, and passes on its own configuration."""
    return _OF_NODE in (config.get("metadata") or {})
