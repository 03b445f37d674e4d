"""Every setting of a run, as LangGraph Studio draws it and a deployment's assistant keeps it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from nodes.llm.prompts import default_prompt

# A model is named, never addressed: addresses and keys come from the environment of the process alone.
MODEL_NAME = r"^[a-z][a-z0-9_]{0,63}(:[A-Za-z0-9][A-Za-z0-9._:/-]{0,127})?$"
ROLE_MODEL_NAME = f"^$|{MODEL_NAME}"


def nodes_of(role: str) -> list[JsonValue]:
    """Return the node of a role; the one named `user` asks no model, so that no prompt is of use there."""
    return ["llm_user" if role == "user" else role]


def prompt_field(role: str, text: str | None = None) -> Any:
    """Return the field of a role's prompt, marked so that Studio lets one edit it on the role's node.

    Args:
        role: Name of the role's node.
        text: The default prompt; the one of this name in `nodes/llm/prompts` if None.
    """
    return Field(
        default_prompt(role) if text is None else text,
        max_length=20_000,
        json_schema_extra={"langgraph_type": "prompt", "langgraph_nodes": nodes_of(role)},
    )


def model_field(role: str) -> Any:
    """Return the field of a role's own model."""
    return Field("", pattern=ROLE_MODEL_NAME, json_schema_extra={"langgraph_nodes": nodes_of(role)})


def temperature_field(role: str) -> Any:
    """Return the field of a role's own temperature."""
    return Field(None, ge=0, le=2, json_schema_extra={"langgraph_nodes": nodes_of(role)})


class Context(BaseModel):
    """How a visit is run. Who visits is the input's matter, since a resume without context gets the defaults here."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    model: str = Field("rules", pattern=MODEL_NAME, examples=["rules", "openai:gpt-4o-mini"])
    """Model of all roles: `rules` (no LLM, deterministic), `openai:NAME` on the configured endpoint, or an installed
    package's."""
    planner_model: str = model_field("planner")
    """Model of the Planner; empty for the one of all roles."""
    actor_model: str = model_field("actor")
    """Model of the Actor; empty for the one of all roles."""
    plan_and_act_model: str = model_field("plan_and_act")
    """Model of Planner and Actor in one; empty for the one of all roles."""
    critic_model: str = model_field("critic")
    """Model of the Critic; empty for the one of all roles."""
    reflector_model: str = model_field("reflector")
    """Model of the Reflector; empty for the one of all roles."""
    user_model: str = model_field("user")
    """Model of the user in `billp_llm_user`; empty for the one of all roles. No other variant asks a model there."""
    temperature: float = Field(0.5, ge=0, le=2)
    """Sampling temperature of LLMs; `rules` draws nothing."""
    planner_temperature: float | None = temperature_field("planner")
    """Sampling temperature of the Planner; empty for the one of all roles."""
    actor_temperature: float | None = temperature_field("actor")
    """Sampling temperature of the Actor; empty for the one of all roles."""
    plan_and_act_temperature: float | None = temperature_field("plan_and_act")
    """Sampling temperature of Planner and Actor in one; empty for the one of all roles."""
    critic_temperature: float | None = temperature_field("critic")
    """Sampling temperature of the Critic; empty for the one of all roles."""
    reflector_temperature: float | None = temperature_field("reflector")
    """Sampling temperature of the Reflector; empty for the one of all roles."""
    user_temperature: float | None = temperature_field("user")
    """Sampling temperature of an LLM as the user; empty for the one of all roles."""

    planner_prompt: str = prompt_field("planner")
    """What the Planner is told, before the facts."""
    actor_prompt: str = prompt_field("actor")
    """What the Actor is told, before the facts."""
    plan_and_act_prompt: str = prompt_field("plan_and_act")
    """What Planner and Actor in one are told, before the facts."""
    critic_prompt: str = prompt_field("critic")
    """What the Critic is told, before the facts."""
    reflector_prompt: str = prompt_field("reflector")
    """What the Reflector is told, before the facts."""
    user_prompt: str = prompt_field("user")
    """What an LLM as the user is told, before the facts."""
    prompt_tokens: int = Field(1500, ge=300, le=100_000)
    """Tokens that a prompt should keep to: its oldest rounds are summed up by category until it does. The default
    prompts take some 450 to 1,100. What else a role is told is bounded, but not cut for it, so a long prompt of its
    own, or many candidates, can still take more."""

    lessons_k: int = Field(2, ge=0, le=20)
    """Lessons recalled for a visit (K of the paper)."""
    experiences_k: int = Field(4, ge=0, le=50)
    """Experiences recalled for a round."""
    values_k: int = Field(4, ge=0, le=50)
    """Values recalled for a round."""
    actor_lessons: bool = False
    """Whether the Actor is told the lessons too; the Planner, who is, puts them into the plan."""
    choices: Literal["shortlist", "free"] = "shortlist"
    """`shortlist` shows the Actor items to choose among; with `free`, as in the original, it writes any title, which is
    grounded to one item. Three quarters of such titles were in no catalogue."""
    shortlist_size: int = Field(8, ge=1, le=100)
    """Items among which the Actor chooses."""
    category_tool: bool = True
    """Whether the roles that decide on categories are told those of the catalogue, those of the last items and `hints`;
    without, they know of the ones that they see in history, rounds and experiences."""
    hints: int = Field(0, ge=0, le=20)
    """Categories drawn at random that the Actor is told to try, in each round."""
    outlook: bool = True
    """Whether the outlook of `billp_outlook` is used; no other variant has one."""
    explore: float = Field(0.3, ge=0, le=1)
    """Share of a study's train visits in which the outlook puts items at random before the Actor."""
    grounding: Literal["fresh", "nearest"] = "fresh"
    """`fresh` never maps a reply to an item that this visit has had; `nearest` does, as the original."""

    critic_titles_only: bool = False
    """Whether the Critic is told titles alone, neither rewards nor distances, as the original's."""
    advantage_rule: Literal["td", "value_difference"] = "td"
    """`td`: A = r' + gamma V(s') - V(s); `value_difference`: the sign of V(s') - V(s), as the original recorded it."""
    gamma: float = Field(0.5, ge=0, le=1)
    """Discount of the next value."""
    leave_penalty: float = Field(5.0, ge=0, le=100)
    """Loss credited to the recommendation after which the user left; never part of a metric."""
    reward_offset: float = Field(3.0, ge=-5, le=5)
    """Taken from each reward for credit, so that returns fit the range of V; 0 is the paper's form."""

    user_guard: bool = True
    """Whether an LLM as the user leaves also where the world's leave rule says so, at the ratings that it gives."""

    learn: Literal["now", "cohort", "off"] = "now"
    """`now` writes each memory as it arises, `cohort` returns them with the visit, `off` keeps none."""
    share_memory: bool = True
    """Whether other users' memories are recalled where the user's own do not suffice."""
    recall_own: bool = True
    """Whether the user's own memories of former visits are recalled; off, it shows what they are worth."""
    private: bool = False
    """Whether what the visit teaches is recalled for this user alone; what a person teaches always is."""
    space: str = Field("", pattern=r"^[a-z0-9_-]*$", max_length=64)
    """Name under which memories are kept; empty for the world's name."""

    @property
    def models(self) -> set[str]:
        """Return the models that play the roles."""
        own = (getattr(self, name) for name in type(self).model_fields if name.endswith("_model"))
        return {model or self.model for model in own}

    @property
    def scripted(self) -> bool:
        """Return whether `rules` plays all roles, so that a visit can be done again at no cost and with no change."""
        return self.models == {"rules"}


def completed(schema: type[Context], given: Context | None) -> Context:
    """Return what was given, and for whatever nobody set the defaults of `schema`."""
    if isinstance(given, schema):
        return given
    return schema.model_validate(given.model_dump(exclude_unset=True) if given else {})
