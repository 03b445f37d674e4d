"""Role as one object: prompt, answer, rules and memory of a role, and the node that plays it.

A role is a node of a graph, that is, an async function of state and runtime. `Role` writes this function for the usual
case: recall records, collect facts, ask the role's model, change fields of the state.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Generic, cast, get_args, get_origin, get_type_hints

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field, create_model
from typing_extensions import TypeVar

from memory.recall import Recalled
from memory.records import Experience, Lesson, Memory, Record, Statement, Value
from nodes.ask import ask_role, settings
from nodes.context import Context, model_field, prompt_field, temperature_field
from nodes.llm.prompting import Facts
from nodes.state import VisitState
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import VisitMemory, visit_memory, writes_memory
from sim.entry_points import ENTRY_NAME
from sim.errors import BadInputError

AnswerT = TypeVar("AnswerT", bound=BaseModel)
M = TypeVar("M", bound=Memory)
K = TypeVar("K")
StateT = TypeVar("StateT", bound=VisitState, default=VisitState)
ContextT = TypeVar("ContextT", bound=Context, default=Context)
# A function that reads the common state also takes a view with more fields.
StateT_co = TypeVar("StateT_co", bound=VisitState, default=VisitState, covariant=True)
ContextT_co = TypeVar("ContextT_co", bound=Context, default=Context, covariant=True)

# Kinds that the built-in roles recall; the state holds them for all roles.
BUILT_IN_KINDS = (Lesson, Experience, Value, Statement)
MOST_RECALLED = 200


@dataclass(frozen=True)
class View(Generic[StateT_co, ContextT_co]):
    """View of the visit that a role gets.

    `View[ItsState, ItsContext]` in the annotations of a role's functions adds fields to the state and settings: the
    fields of `ItsState`, a subclass of `VisitState`, and of `ItsContext`, a subclass of `Context`.
    """

    state: StateT_co
    """State of the visit; read only."""
    settings: ContextT_co
    """Settings of the run."""
    user: Visitor
    """User of the visit in the opened world, as far as the roles may know them."""
    _memory: VisitMemory = field(repr=False)
    _recalled: Mapping[type[Memory], Sequence[Recalled[Any]]] = field(repr=False)

    @property
    def round(self) -> int:
        """Number of the next round, from 0."""
        return len(self.state.steps)

    def recalled(self, kind: type[M]) -> Sequence[Recalled[M]]:
        """Return the recalled records of a kind that the role lists in `recalls`.

        The user's own records come first, then those of the most similar situations.
        """
        if kind not in self._recalled:
            raise BadInputError(f"no {kind.__name__} is recalled: name the class in `recalls` of the role")
        return self._recalled[kind]

    def record(self, kind: type[Memory], number: int, **fields: Any) -> Record:
        """Return a record of this visit. A replayed round replaces its record instead of writing another.

        Args:
            kind: Class of the record.
            number: Number of the round, from 0; the number of rounds for a record of the whole visit. The situation
                of the record is that before the round.
            fields: Fields that the class adds to `Memory`.
        """
        return self._memory.record(kind, number, situation=self.user.situation(self.state.steps[:number]), **fields)


class Role(Generic[AnswerT, StateT, ContextT]):
    """Role that asks a model; the object is the role's node.

    Settings come with the object: `{name}_prompt`, `{name}_model` and `{name}_temperature`, and `{kind}_k` for each
    kind of records in `recalls`. Own fields of the state and other settings come with the annotation of the view.

    Args:
        name: Name of the role and of its node: small letters, digits and `_`.
        prompt: Default of the setting `{name}_prompt`, the text before the facts.
        answer: Schema of the answer. If a model replies with plain text, the text becomes the first field.
        facts: Function that returns the facts of the prompt, JSON values only; None if there is nothing to ask. It
            runs in a thread.
        rules: Function that answers for the model `rules`, from the facts alone.
        apply: Function that returns the fields of the state that the answer changes.
        check: Function that returns the fault of a well-formed answer in words, or None.
        fallback: Function that answers if the model gives no usable answer when asked twice; `rules` if not given.
        recalls: Classes of the records to recall before each question, with the default of their `{kind}_k`.
        saves: Function that returns the records to write. It runs in a thread.
        looks_back: Whether the question is about the last round instead of the next one.

    Raises:
        BadInputError: The name is invalid or that of a built-in role, a kind is one of the built-in roles' own, or
            the annotations name classes that do not extend each other.
    """

    __name__: str

    def __init__(
        self,
        name: str,
        prompt: str,
        answer: type[AnswerT],
        *,
        facts: Callable[[View[StateT, ContextT]], Facts | None],
        rules: Callable[[Facts], AnswerT],
        apply: Callable[[AnswerT, View[StateT, ContextT]], dict[str, Any]],
        check: Callable[[AnswerT, Facts], str | None] = lambda _, __: None,
        fallback: Callable[[Facts], AnswerT] | None = None,
        recalls: Mapping[type[Memory], int] | None = None,
        saves: Callable[[AnswerT, View[StateT, ContextT]], Iterable[Record]] | None = None,
        looks_back: bool = False,
    ) -> None:
        _check_role(name, filter(None, (facts, rules, apply, check, fallback, saves)))
        kinds = dict(recalls or {})
        schema, own_settings = _classes_of_view((facts, apply, *filter(None, [saves])))
        with_own = _settings_class(name, prompt, kinds, own_settings)
        writes_records = saves

        def played(told: Facts) -> AnswerT:
            reply = rules(told)
            if not isinstance(reply, answer):
                raise BadInputError(
                    f"the rules of the role {name!r} returned {type(reply).__name__}: return {answer.__name__}"
                )
            return reply

        async def play(state: StateT, runtime: Runtime[ContextT]) -> dict[str, Any]:
            view = await _view(state, runtime, kinds)
            told = await asyncio.to_thread(facts, view)
            if told is None:
                return {}
            reply, said = await ask_role(
                name,
                state,
                view.settings,
                lambda: told,
                answer,
                check=lambda one: check(one, told),
                fallback=lambda: (fallback or played)(told),
                rules=lambda given: played(given).model_dump(mode="json"),
                looks_back=looks_back,
            )
            learnt = {}
            if writes_records is not None:
                learnt = await _save(lambda: writes_records(reply, view), view)
            return {**apply(reply, view), **said, **learnt}

        _describe(play, name, apply, schema, with_own)
        # The object takes the function's name and annotations, from which a graph reads the state and the settings.
        update_wrapper(cast(Callable[..., Any], self), play)
        self._fields = {*schema.model_fields}
        self._play: Callable[..., Awaitable[dict[str, Any]]] = play
        if saves is not None:
            writes_memory(self)

    async def __call__(self, state: VisitState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Play the role: return the changed fields of the state."""
        update = await self._play(state, runtime)
        # LangGraph drops such fields without a word.
        if undeclared := {*update} - self._fields:
            raise BadInputError(
                f"the role {self.__name__!r} returned {', '.join(sorted(undeclared))}, which is no field of the state: "
                "add it to a subclass of VisitState, and write `View[ItsState]` in the annotations"
            )
        return update


def _check_role(name: str, functions: Iterable[Callable[..., Any]]) -> None:
    """Check the name of a new role, and that its functions are plain ones.

    Raises:
        BadInputError: The name is invalid or taken, or a function is async.
    """
    if not ENTRY_NAME.fullmatch(name):
        raise BadInputError(
            f"{name[:80]!r} is not a valid name of a role: use lower-case letters, digits and _, starting with a letter"
        )
    for function in functions:
        if inspect.iscoroutinefunction(function):
            raise BadInputError(f"{function.__name__} of the role {name!r} is async: write a plain function")
    if f"{name}_prompt" in Context.model_fields:
        raise BadInputError(f"the role {name!r} exists already: choose another name")


def saves_records(
    records: Callable[[View[StateT, ContextT]], Iterable[Record]],
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Decorate a function as a role that asks no model and saves the returned records.

    The role is named after the function, which runs in a thread. Studies train the variants with such a role.
    """

    async def play(state: StateT, runtime: Runtime[ContextT]) -> dict[str, Any]:
        view = await _view(state, runtime, {})
        return await _save(lambda: records(view), view)

    schema, own_settings = _classes_of_view((records,))
    _describe(play, records.__name__, records, schema, own_settings)
    return writes_memory(play)


async def _view(state: StateT, runtime: Runtime[ContextT], kinds: Mapping[type[Memory], int]) -> View[StateT, ContextT]:
    who, memory, context = await visitor(state), visit_memory(state, runtime), settings(runtime)
    recalled: dict[type[Memory], Sequence[Recalled[Any]]] = {}
    for kind in kinds:
        count = getattr(context, _count_setting(kind))
        recalled[kind] = await memory.recall(kind, who.situation(state.steps), count)
    return View(state, context, who, memory, recalled)


async def _save(records: Callable[[], Iterable[Record]], view: View[Any, Any]) -> dict[str, Any]:
    return await view._memory.save(await asyncio.to_thread(lambda: list(records())))


def _settings_class(name: str, prompt: str, kinds: Mapping[type[Memory], int], base: type[Context]) -> type[Context]:
    """Return `base` with the settings that come with a role."""
    others = "empty for the {} of all roles."
    fields: dict[str, Any] = {
        f"{name}_prompt": (str, prompt_field(name, prompt, f"Prompt of the role `{name}`; the facts follow it.")),
        f"{name}_model": (str, model_field(name, f"Model of the role `{name}`; {others.format('model')}")),
        f"{name}_temperature": (
            float | None,
            temperature_field(name, f"Sampling temperature of the role `{name}`; {others.format('temperature')}"),
        ),
    }
    for kind, count in kinds.items():
        if kind in BUILT_IN_KINDS:
            raise BadInputError(
                f"recalls: {kind.__name__} is recalled by a built-in role: read `state.lessons` or `state.experiences`"
            )
        fields[_count_setting(kind)] = (
            int,
            Field(
                count,
                ge=0,
                le=MOST_RECALLED,
                description=f"Number of {kind.model_fields['kind'].default} recalled for a round.",
                json_schema_extra={"langgraph_nodes": [name]},
            ),
        )
    return create_model(f"{base.__name__}_{name}", __base__=base, __doc__=base.__doc__, **fields)


def _count_setting(kind: type[Memory]) -> str:
    return f"{kind.model_fields['kind'].default}_k"


def _describe(
    play: Callable[..., Any], name: str, source: Callable[..., Any], schema: type[VisitState], context: type[Context]
) -> None:
    """Give the function of a node its name, its docstring and the annotations that a graph reads."""
    play.__name__ = play.__qualname__ = name
    play.__module__, play.__doc__ = source.__module__, inspect.getdoc(source)
    # mypy does not accept variables in `Runtime[...]`.
    play.__annotations__ = {"state": schema, "runtime": cast(Any, Runtime)[context], "return": dict[str, Any]}


def _classes_of_view(functions: Iterable[Callable[..., Any]]) -> tuple[type[VisitState], type[Context]]:
    """Return the classes of state and settings that the functions' annotations name, such as `View[ItsState]`."""
    states: list[type[VisitState]] = [VisitState]
    contexts: list[type[Context]] = [Context]
    for function in functions:
        for hint in get_type_hints(function).values():
            if get_origin(hint) is View:
                states += [one for one in get_args(hint) if inspect.isclass(one) and issubclass(one, VisitState)]
                contexts += [one for one in get_args(hint) if inspect.isclass(one) and issubclass(one, Context)]
    return _most_special(states), _most_special(contexts)


def _most_special(classes: Sequence[type[K]]) -> type[K]:
    found = max(classes, key=lambda one: len(one.__mro__))
    for other in classes:
        if not issubclass(found, other):
            raise BadInputError(
                f"the views of a role name {found.__name__} and {other.__name__}: let one extend the other"
            )
    return found
