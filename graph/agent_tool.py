"""Tool for LangChain agents: a visit as one call, and its result as short JSON.

Example:
    A tool that rehearses visits with the simulated users of a world, and one that asks the person at the agent::

        from graph.extend import billp_tool
        from graph.recommend import graph as recommend

        rehearse = billp_tool(world="tiny")
        ask = billp_tool(recommend, world="tiny")
"""

from typing import Annotated, Any

from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graph.episode import graph as episode
from graph.run_metadata import KnownGraph
from memory.chroma.errors import StoreError
from nodes.context import Context
from nodes.lifecycle import MAX_INPUT_TEXT, MAX_WISHES
from nodes.prompt_facts import shown
from nodes.state import DEFAULT_STEPS, GUEST, RecommendInput, Step, VisitOutput, first_fault
from nodes.users.answer_faults import BadAnswerError
from nodes.users.person import reasons
from sim.errors import BillpError

# Most titles that a model may give; it knows them from a conversation.
MAX_TOOL_HISTORY = 50
# Most characters of a refusal; it goes into the model's next prompt.
MAX_REFUSAL = 500
USER_ID = "user_id"
"""Key in `configurable` with the id of the user; a signed-in account has precedence in a person's visit."""


class VisitArguments(BaseModel):
    """Arguments that a model gives: taste and length, never the user."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    history: list[Annotated[str, Field(max_length=MAX_INPUT_TEXT)]] = Field(
        [], max_length=MAX_TOOL_HISTORY, examples=[["Toy Story", "Heat"]]
    )
    """Titles that the user liked before, oldest first; empty if none are known."""
    max_steps: int = Field(5, ge=1, le=DEFAULT_STEPS)
    """Most items to recommend."""


class PersonArguments(VisitArguments):
    """Arguments for a visit of a person."""

    wishes: str = Field("", max_length=MAX_WISHES, examples=["slow films, no horror"])
    """Wishes of the user in their own words."""


class RecommendedItem(BaseModel):
    """Item of a visit, as the agent gets it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    title: str
    why: str
    """Reasons for the recommendation, addressed to the user."""
    reward: float | None
    """Rating by the user, 1 to 5; None if a person skipped the item or left."""


class VisitSummary(BaseModel):
    """Result of a visit, as the agent gets it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    items: list[RecommendedItem]
    """Items in the order of their recommendation."""
    left: bool
    """Whether the user left after the last item."""


def billp_tool(
    graph: KnownGraph = episode, *, world: str = "", context: Context | None = None, name: str = "recommend_items"
) -> BaseTool:
    """Return a tool by which an agent runs one visit.

    A call returns a `VisitSummary` as JSON: title, why and reward of each item. The visit uses the store of the agent's
    graph. The tool is asynchronous: run the agent by `ainvoke` or `astream`.

    The model never names the user. In a visit of a person this is the account signed in to the server, else `user_id`
    in the `configurable` of the run, else a guest; a simulated user is `user_id` in `configurable`, else a guest with
    the given history, else the world's first dev user. In a visit of a person, each item interrupts the agent's graph,
    which needs a checkpointer, and is answered there by `Command(resume={"rating": 4})`.

    The model reads invalid arguments, and faults that stop a visit, as one line. An invalid answer of a person fails
    the run, and the question stays open.

    Args:
        graph: Graph that a call runs: `graph.episode.graph` and its variants for a simulated user,
            `graph.recommend.graph` for a person.
        world: Name of the world; empty for the default one.
        context: Settings of the visits; None for those of the agent's run.
        name: Name of the tool.

    Examples:
        >>> import asyncio
        >>> asyncio.run(billp_tool(world="tiny").ainvoke({"max_steps": 0}))
        'max_steps: Input should be greater than or equal to 1'
    """
    schema = graph.builder.input_schema
    is_person = issubclass(schema, RecommendInput)
    arguments = PersonArguments if is_person else VisitArguments

    # The agent's limit of steps is about its own nodes; the rounds bound those of a visit.
    most_steps = len(graph.nodes) * (DEFAULT_STEPS + 1)

    async def visit(**given: Any) -> str:
        config = ensure_config()
        user = _named_user(config["configurable"], is_person)
        if not user and given.get("history"):
            # The predictions for a user of the world would not follow the history.
            user = GUEST
        asked = {"world": world, **({"user_id": user} if user else {}), **given}
        config["recursion_limit"] = most_steps
        try:
            output = await graph.ainvoke(schema.model_validate(asked), config, context=context)
        except BadAnswerError:
            # Not for the model, which cannot give another answer: the question stays open.
            raise
        except (BillpError, StoreError) as error:
            raise ToolException(_one_line(str(error))) from error
        return summary(VisitOutput.model_validate(output), given.get("wishes", ""), is_person).model_dump_json()

    return StructuredTool(
        name=name,
        description=_PERSON if is_person else _SIMULATED,
        args_schema=arguments,
        coroutine=visit,
        handle_tool_error=True,
        handle_validation_error=_refused_arguments,
    )


def _refused_arguments(error: Any) -> str:
    """Return what is wrong with a model's arguments; LangChain also passes on an error of the visit itself."""
    if not isinstance(error, ValidationError) or error.title not in (VisitArguments.__name__, PersonArguments.__name__):
        raise error
    return _one_line(first_fault(error))


def _named_user(configurable: dict[str, Any], is_person: bool) -> Any:
    """Return the user that the configuration of a run names; empty if it names none."""
    user, account = configurable.get(USER_ID), configurable.get("langgraph_auth_user")
    # LangGraph's server writes the account's name there if the client writes none. No account is a user of a world.
    return "" if account is not None and user == account.identity and not is_person else user


_RESULT = 'Returns JSON: "items" with title, why and reward (rating from 1 to 5) of each, and whether the user "left".'
_PERSON = f"Recommend items to the user one after another; the user rates each. {_RESULT}"
_SIMULATED = f"Recommend items one after another to a simulated user with the given history, who rates each. {_RESULT}"


def summary(output: VisitOutput, wishes: str, is_person: bool) -> VisitSummary:
    """Return the result of a visit for an agent.

    Args:
        output: Output of the visit.
        wishes: Wishes of the user in this visit.
        is_person: Whether the user is a person, who leaves without a rating.
    """
    return VisitSummary(items=[_item(step, wishes, is_person) for step in output.steps], left=output.left)


def _item(step: Step, wishes: str, is_person: bool) -> RecommendedItem:
    unrated = step.skipped or (is_person and step.left)
    return RecommendedItem(
        title=shown(step.title), why=reasons(step, wishes), reward=None if unrated else round(step.reward, 2)
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_REFUSAL]
