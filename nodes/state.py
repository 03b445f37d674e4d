"""What a visit is given, what its nodes hand on to each other, and what comes out of it.

LangGraph validates a whole state whenever it is read, so one bad input or edit would make a thread unreadable for good.
Therefore fields carry types only, limits being checked by the node `begin`; and what does not fit a type is not refused
on reading but marked, and refused by the first node that works with the state.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from langgraph.channels import DeltaChannel, EphemeralValue
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from memory.records import Record
from sim.errors import BadInputError
from sim.leave import LeaveReason

GUEST = "guest"
DEFAULT_STEPS = 20
# Digits of a dollar; a token costs some 1e-7.
COST_DIGITS = 12
Entry = TypeVar("Entry", bound=BaseModel)


class Usage(BaseModel):
    """Model calls and tokens spent."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    calls: int = 0
    """Number of model calls."""
    prompt_tokens: int = 0
    """Tokens of all prompts."""
    completion_tokens: int = 0
    """Tokens of all replies."""
    cached_tokens: int = 0
    """Tokens of prompts that the provider had in its cache; among `prompt_tokens` too."""
    retries: int = 0
    """Attempts that failed before a call succeeded; not among `calls`."""
    cost: float = 0.0
    """US dollars, for calls whose price is known."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            retries=self.retries + other.retries,
            cost=self.cost + other.cost,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls - other.calls,
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            cached_tokens=self.cached_tokens - other.cached_tokens,
            retries=self.retries - other.retries,
            cost=round(self.cost - other.cost, COST_DIGITS),
        )


class Exchange(BaseModel):
    """The last conversation of one role with its model, for reading while one steps."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    prompt: str = ""
    """What the model was sent: the role's prompt, then the facts."""
    reply: str = ""
    """What the model wrote, as it came."""
    outcome: str = ""
    """How the reply was used: ok, repaired, asked_again or fallback."""
    fault: str = ""
    """What was wrong with the reply, empty when nothing was."""
    round: int = 0
    """Number of the round that it was about, from 0."""


class Candidate(BaseModel):
    """One item of the shortlist, with what the logs say about it for this user."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    item_id: str
    title: str
    genres: list[str] = []
    predicted: float
    """Rating that the logs model predicts, 1 to 5."""
    distance: float | None = None
    """Least cosine distance (0 to 2) to the last four recommended items, by the logs model; none at first."""
    risk: float | None = None
    """Risk that the user leaves after it, as the outlook has learned; none without an outlook."""
    before: float | Literal["left"] | None = None
    """What the user made of it in this very situation on a former visit: the rating, or `left`."""


class Proposal(BaseModel):
    """What the Actor proposes: what it wrote, and the catalogue item that this stands for."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True)

    text: str = ""
    """The title as the Actor wrote it."""
    item_id: str = ""
    """Id of the item; change this, or the title, to recommend something else."""
    title: str = ""
    genres: list[str] = []


class Profile(BaseModel):
    """What is known of a person who visits, in their own words and ratings. They can read and correct it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str = ""
    """Wishes and comments, one a line, the latest last."""
    ratings: dict[str, float] = {}
    """Ratings (1 to 5) by item id, of this visit and earlier ones."""


class Told(BaseModel):
    """A lesson as the roles are told it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str
    support: int = 1
    """Number of visits that taught the same."""
    length: float = 0.0
    """Mean number of rounds of those visits."""


class Remembered(BaseModel):
    """An experience as the Actor is told it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True)

    item_id: str = ""
    title: str
    genres: list[str] = []
    distance: float | None = None
    """Distance of the item to the four before it, as in the shortlist."""
    advantage: float
    """How much better than expected the recommendation turned out; below 0 is worse."""
    similarity: float
    """Cosine similarity of the situation then to the situation now."""
    before: float | Literal["left"] | None = None
    """The user's rating, or `left`, where it is of this very user and situation."""


class Step(BaseModel):
    """One round of a visit. The user appends it, the Critic completes it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True)

    index: int
    """Number of the round, from 0."""
    plan: str = ""
    proposed: str = ""
    """What the Actor wrote."""
    item_id: str = ""
    title: str = ""
    genres: list[str] = []
    predicted: float = 0.0
    """Rating that the logs model predicted."""
    distance: float | None = None
    """Least distance to the last four recommended items, by the logs model; none in the first round."""
    risk: float | None = None
    """Risk that the user would leave, by the outlook; none where it did not list the item."""
    reward: float = 0.0
    """The user's rating, 1 to 5."""
    value: float = 0.0
    """V(s_t): how well things stood before the round, -5 to 5."""
    next_value: float | None = None
    """V(s_{t+1}), given before the round's reward is known; none where no Critic takes part."""
    advantage: float | None = None
    """How much better than expected the round went; none where no Critic takes part."""
    skipped: bool = False
    """Whether a person passed over the item without a rating; the reward is then a neutral 3."""
    reason: str = ""
    """Why an LLM as the user rates so, and stays or leaves, in its words; empty for every other user."""
    left: bool = False
    """Whether the user left after this round."""
    outcomes: dict[str, str] = {}
    """How the reply of each role in this round was used, as in `exchange`; the Reflector's stands in the last round."""
    usage: Usage = Usage()
    """Model calls and tokens of this round."""


def keyed(model: type[Entry], key: Callable[[Entry], Any]) -> Callable[[Any, Sequence[Any]], list[Entry]]:
    """Return a reducer for a `DeltaChannel` that keeps one entry a key, the latest winning, in order of arrival.

    The reducer never raises, since one that does makes a thread unreadable for good: what is no valid entry
    (an edit over the API may bring anything) is left out.
    """
    entry: TypeAdapter[Entry] = TypeAdapter(model)

    def valid(entries: Any) -> list[Entry]:
        found = []
        for one in entries if isinstance(entries, list) else [entries]:
            try:
                found.append(one if isinstance(one, model) else entry.validate_python(one))
            except ValidationError:
                continue
        return found

    def reduce(current: Any, writes: Sequence[Any]) -> list[Entry]:
        merged = {key(one): one for one in valid(current or [])}
        for write in writes:
            merged.update((key(one), one) for one in valid(write))
        return list(merged.values())

    return reduce


class Unusable(BaseModel):
    """Stands in a state for a value that does not fit its field."""

    fault: str


class _Readable(BaseModel):
    """A state that can always be read; `check_types` says what is wrong with it."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _mark_unusable(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            return Unusable(fault=error.errors(include_url=False)[0]["msg"])

    def check_types(self) -> None:
        """Check that every field holds what it should.

        Raises:
            BadInputError: One does not; the message names it.
        """
        for name, value in self.__dict__.items():
            if isinstance(value, Unusable):
                raise BadInputError(f"{name}: {value.fault}")


class VisitInput(_Readable):
    """The identity of a visit: who visits which world, from which seed, for how long."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True)

    world: str = Field("", examples=["movielens", "tiny"])
    """Name of the world; empty for the default one (movielens where the extra is installed, else tiny)."""
    user_id: str = Field("", examples=["1"])
    """Who visits; empty for the world's first dev user."""
    history: list[str] = Field([], examples=[["Toy Story", "Heat"]])
    """Titles liked before, oldest first; needed for a user whom the world does not know."""
    seed: int = 0
    """Tells a user's visits apart where nothing else does; for whatever a role draws at random (the built-in ones draw
    nothing)."""
    max_steps: int = DEFAULT_STEPS
    """Most rounds of the visit."""


class RecommendInput(VisitInput):
    """The identity of a person's visit."""

    user_id: str = Field(GUEST, examples=[GUEST])
    """Name of the person; their memories and profile are kept under it."""
    history: list[str] = Field([], examples=[["Toy Story", "Heat"]])
    """A few titles that the person likes; not needed."""
    wishes: str = Field("", examples=["slow films, no horror"])
    """What the person would like, in their own words; goes into their profile."""


class Identity(VisitInput):
    """Who visits which world in the visit under way."""


class Beginning(RecommendInput):
    """What the first node of a visit sees: the input alone, and how many visits its thread has had."""

    user_id: str = ""
    visit: int = 0


class VisitState(VisitInput):
    """What the nodes of a visit hand on to each other.

    The fields of the input live for one step only: a later input on the same thread that leaves one out gets its
    default, not what somebody else's visit left. `begin` keeps them as `identity`, from which they are filled in again
    for every other node.
    """

    world: Annotated[str, EphemeralValue(str)] = ""
    user_id: Annotated[str, EphemeralValue(str)] = ""
    history: Annotated[list[str], EphemeralValue(list)] = []
    seed: Annotated[int, EphemeralValue(int)] = 0
    max_steps: Annotated[int, EphemeralValue(int)] = DEFAULT_STEPS
    wishes: Annotated[str, EphemeralValue(str)] = ""
    """What a person would like, as they put it this time; `begin` makes it a part of their profile."""
    identity: Identity | None = None
    """Who visits which world in the visit under way."""
    visit: int = 0
    """Number of this visit on its thread, from 1."""
    visit_id: str = ""
    """Id of this visit; its memories are kept under it, and it never recalls them itself."""
    profile: Profile | None = None
    """What is known of the person who visits; none where the user is simulated."""
    plan: str = ""
    """The Planner's plan for this round; edit it, and the Actor follows the edit."""
    lessons: list[Told] = []
    """Lessons recalled for this visit."""
    experiences: list[Remembered] = []
    """Experiences recalled for this round."""
    shortlist: list[Candidate] = []
    """Items among which the Actor chooses in this round."""
    foreseen: list[Candidate] = []
    """What the outlook puts before the Actor in this round; without any, the Actor makes its own shortlist."""
    proposal: Proposal | None = None
    """The item about to be recommended; edit it, and the user gets the edit."""
    value: float = 0.0
    """V(s_t): the Critic's view of how well things stand, -5 to 5."""
    exchange: dict[str, Exchange] = {}
    """Last prompt, raw reply and repair of each role."""
    usage: Usage = Usage()
    """Model calls and tokens of the visit so far."""
    steps: Annotated[list[Step], DeltaChannel(keyed(Step, lambda step: step.index))] = []
    """The rounds so far."""
    records: Annotated[list[Record], DeltaChannel(keyed(Record, lambda record: record.key))] = []
    """Memories to be written when the cohort ends."""
    left: bool = False
    """Whether the user has left."""
    leave_reason: LeaveReason | None = None
    """Why the user left, as the world knows it; no role is shown it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_identity(cls, fields: Any) -> Any:
        identity = fields.get("identity") if isinstance(fields, dict) else None
        known = dict(identity) if isinstance(identity, Identity | dict) else {}
        return known | fields if known else fields


class VisitOutput(BaseModel):
    """What came of a visit. Lengths and rewards leave out the round after which the user left, unless named so."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    user_id: str
    steps: list[Step]
    length: int
    """Rounds without the leaving one."""
    length_with_exit: int
    """Rounds with the leaving one."""
    total_reward: float
    mean_reward: float
    left: bool
    leave_reason: LeaveReason | None
    lessons: list[Told] = []
    """Lessons that the visit recalled; none where no role asks for them."""
    usage: Usage
    records: list[Record]
    """Memories of the visit, where `learn` is `cohort`."""
