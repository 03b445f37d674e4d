"""Settings of a run, as LangGraph Studio shows them and an assistant of a deployment stores them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from nodes.llm.prompts import default_prompt
from nodes.llm.text.model_names import MODEL_NAME, unknown_model
from nodes.state import first_fault
from sim.errors import BadInputError
from sim.near_names import unknown_name

ROLE_MODEL_NAME = f"^$|{MODEL_NAME}"
# Attribute or key of another program's context that holds the settings of the visits.
OWN_KEY = "billp"


def nodes_of(role: str) -> list[JsonValue]:
    """Return the nodes of a role; for the user it is `llm_user`, because the node `user` asks no model."""
    return ["llm_user" if role == "user" else role]


def prompt_field(role: str, text: str | None = None, description: str | None = None) -> Any:
    """Return the field of a role's prompt, marked so that Studio shows an editor for it on the role's node.

    Args:
        role: Name of the role's node.
        text: Default prompt; None loads the file of this name from `nodes/llm/prompts`.
        description: Description of the setting; None takes the docstring below the field.
    """
    return Field(
        default_prompt(role) if text is None else text,
        max_length=20_000,
        description=description,
        json_schema_extra={"langgraph_type": "prompt", "langgraph_nodes": nodes_of(role)},
    )


def model_field(role: str, description: str | None = None) -> Any:
    """Return the field for the model of one role; `description` as in `prompt_field`."""
    return Field(
        "", pattern=ROLE_MODEL_NAME, description=description, json_schema_extra={"langgraph_nodes": nodes_of(role)}
    )


def temperature_field(role: str, description: str | None = None) -> Any:
    """Return the field for the sampling temperature of one role; `description` as in `prompt_field`."""
    return Field(None, ge=0, le=2, description=description, json_schema_extra={"langgraph_nodes": nodes_of(role)})


class Context(BaseModel):
    """Settings of a visit. The user is part of the input, because a resume without context gets the defaults here."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    model: str = Field("rules", pattern=MODEL_NAME, examples=["rules", "openai:gpt-4o-mini"])
    """Model of all roles: `rules` (no LLM, deterministic), `openai:NAME` on the configured endpoint, or a model of an
    installed package."""
    planner_model: str = model_field("planner")
    """Model of the Planner; empty for the model of all roles."""
    actor_model: str = model_field("actor")
    """Model of the Actor; empty for the model of all roles."""
    plan_and_act_model: str = model_field("plan_and_act")
    """Model of Planner and Actor in one; empty for the model of all roles."""
    critic_model: str = model_field("critic")
    """Model of the Critic; empty for the model of all roles."""
    reflector_model: str = model_field("reflector")
    """Model of the Reflector; empty for the model of all roles."""
    user_model: str = model_field("user")
    """Model of the user in `billp_llm_user`; empty for the model of all roles. Other variants ask no model here."""
    temperature: float = Field(0.5, ge=0, le=2)
    """Sampling temperature of an LLM; `rules` is deterministic and ignores it."""
    planner_temperature: float | None = temperature_field("planner")
    """Sampling temperature of the Planner; empty for the temperature of all roles."""
    actor_temperature: float | None = temperature_field("actor")
    """Sampling temperature of the Actor; empty for the temperature of all roles."""
    plan_and_act_temperature: float | None = temperature_field("plan_and_act")
    """Sampling temperature of Planner and Actor in one; empty for the temperature of all roles."""
    critic_temperature: float | None = temperature_field("critic")
    """Sampling temperature of the Critic; empty for the temperature of all roles."""
    reflector_temperature: float | None = temperature_field("reflector")
    """Sampling temperature of the Reflector; empty for the temperature of all roles."""
    user_temperature: float | None = temperature_field("user")
    """Sampling temperature of an LLM as the user; empty for the temperature of all roles."""

    planner_prompt: str = prompt_field("planner")
    """Prompt of the Planner; the facts follow it."""
    actor_prompt: str = prompt_field("actor")
    """Prompt of the Actor; the facts follow it."""
    plan_and_act_prompt: str = prompt_field("plan_and_act")
    """Prompt of Planner and Actor in one; the facts follow it."""
    critic_prompt: str = prompt_field("critic")
    """Prompt of the Critic; the facts follow it."""
    reflector_prompt: str = prompt_field("reflector")
    """Prompt of the Reflector; the facts follow it."""
    user_prompt: str = prompt_field("user")
    """Prompt of an LLM as the user; the facts follow it."""
    prompt_tokens: int = Field(1500, ge=300, le=100_000)
    """Target size of a prompt in tokens: the oldest rounds are summed up by category until the prompt fits. The default
    prompts take some 500 to 1,200. The other facts are bounded but not cut to fit, so a long prompt text or many
    candidates can still exceed the target."""

    lessons_k: int = Field(2, ge=0, le=20)
    """Number of lessons recalled for a visit (K in the paper)."""
    experiences_k: int = Field(3, ge=0, le=50)
    """Number of experiences recalled for a round."""
    values_k: int = Field(3, ge=0, le=50)
    """Number of values recalled for a round."""
    actor_lessons: bool = False
    """Whether the Actor gets the lessons too. The Planner always gets them and puts them into the plan."""
    choices: Literal["shortlist", "free"] = "shortlist"
    """`shortlist` shows the Actor candidates to choose among. With `free`, as in the original, it writes any title,
    which is grounded to one item; three quarters of such titles were not in the catalogue."""
    shortlist_size: int = Field(8, ge=1, le=100)
    """Number of candidates on the shortlist."""
    category_tool: bool = True
    """Whether the roles that decide on categories get those of the catalogue, those of the last items and `hints`.
    Without the tool they know only the categories in history, rounds and experiences."""
    hints: int = Field(0, ge=0, le=20)
    """Number of random categories that the Actor is told to try in each round."""
    outlook: bool = True
    """Whether the outlook is used. The default agent (`billp_outlook`) has one; `billp` and its variants have none."""
    leave_risk: Literal["fitted", "prior"] = "fitted"
    """`fitted` learns the leave risk of the outlook from experiences; `prior` keeps it at its prior, and tells the
    roles nothing of other visits' rounds, to measure what is learned."""
    pairs: bool = True
    """Whether candidates and their risk use what is known of pairs of items that users have taken one after the
    other."""
    evidence: bool = True
    """Whether the roles are told how often users left by distance, over all rounds that the visit may recall."""
    explore: float = Field(0.3, ge=0, le=1)
    """Share of a study's training visits in which the outlook shows the Actor random items."""
    grounding: Literal["fresh", "nearest"] = "fresh"
    """`fresh` never maps a reply to an item that this visit already had; `nearest` may, as the original did. Neither
    maps it to an item of the user's history, unless the world allows known items."""

    critic_titles_only: bool = False
    """Whether the Critic gets titles only, without rewards and distances, as in the original."""
    advantage_rule: Literal["td", "value_difference"] = "td"
    """`td`: A = r' + gamma V(s') - V(s); `value_difference`: the sign of V(s') - V(s), as the original recorded it."""
    gamma: float = Field(0.5, ge=0, le=1)
    """Discount of the next value."""
    leave_penalty: float = Field(5.0, ge=0, le=100)
    """Loss credited to the recommendation that made the user leave; credit only, never a metric."""
    reward_offset: float = Field(3.0, ge=-5, le=5)
    """Subtracted from each reward for credit, so that returns fit the range of V; 0 is the paper's form."""

    user_guard: bool = True
    """Whether an LLM as the user also leaves when the world's leave rule says so, applied to the LLM's own ratings."""

    learn: Literal["now", "cohort", "off"] = "now"
    """`now` writes each memory at once, `cohort` returns the memories with the visit, `off` keeps none."""
    share_memory: bool = True
    """Whether other users' memories are recalled if the user's own are too few."""
    recall_own: bool = True
    """Whether the user's own memories of former visits are recalled; switch it off to measure their worth."""
    private: bool = False
    """Whether memories of the visit are recalled for this user only; memories of a person always are."""
    space: str = Field("", pattern=r"^[a-z0-9_-]*$", max_length=64)
    """Name of the memory space; empty for the world's name."""

    @field_validator("*", mode="before")
    @classmethod
    def _say_which_model_was_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a name that is no model's in plain words; the pattern alone would answer with itself."""
        name = info.field_name or ""
        pattern = MODEL_NAME if name == "model" else ROLE_MODEL_NAME if name.endswith("_model") else ""
        if pattern and isinstance(value, str) and not re.fullmatch(pattern, value):
            raise PydanticCustomError("model_name", "{words}", {"words": unknown_model(value)})
        return value

    @property
    def models(self) -> set[str]:
        """The names of the models of all roles.

        Examples:
            >>> sorted(Context(model="openai:gpt-4o-mini", critic_model="rules").models)
            ['openai:gpt-4o-mini', 'rules']
        """
        own = (getattr(self, name) for name in type(self).model_fields if name.endswith("_model"))
        return {model or self.model for model in own}

    @property
    def scripted(self) -> bool:
        """Return whether `rules` plays all roles, so that a visit can be repeated at no cost with the same result."""
        return self.models == {"rules"}


ContextT = TypeVar("ContextT", bound=Context)


def check_names(names: Iterable[Any], schema: type[BaseModel], where: str, what: str) -> None:
    """Check that a schema has all names.

    Raises:
        BadInputError: A name is unknown; the message names the nearest known one.
    """
    for name in names:
        if name not in schema.model_fields:
            raise BadInputError(f"{where}: {unknown_name(name, schema.model_fields, what)}")


def completed(schema: type[ContextT], given: object) -> ContextT:
    """Return the settings of a run as `schema`, with the defaults of `schema` for every unset field.

    Args:
        schema: Class of the settings.
        given: Context of the run. LangGraph hands the context of a graph to the graphs that it runs. If the context is
            of another class, its attribute or key `billp` holds the settings: a `Context`, or a mapping. Nothing else
            in it counts, because another program's `model` is none of ours.

    Raises:
        BadInputError: The mapping holds an unknown or an invalid setting.

    Examples:
        >>> completed(Context, {"model": "theirs", "billp": {"lessons_k": 5}}).lessons_k
        5
        >>> completed(Context, {"model": "theirs"}).model
        'rules'
    """
    own = given
    if not isinstance(given, Context):
        own = given.get(OWN_KEY) if isinstance(given, Mapping) else getattr(given, OWN_KEY, None)
    if isinstance(own, schema):
        return own
    if isinstance(own, Context):
        # Another variant's settings have names that this one does not know.
        own = {name: value for name, value in own.model_dump(exclude_unset=True).items() if name in schema.model_fields}
    own = dict(own) if isinstance(own, Mapping) else {}
    check_names(own, schema, f"{OWN_KEY} in the context", "setting")
    try:
        return schema.model_validate(own)
    except ValidationError as error:
        raise BadInputError(f"{OWN_KEY} in the context: {first_fault(error)}: correct the setting") from error
