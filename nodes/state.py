"""State of a visit: its input, what its nodes hand on to each other, and its output.

LangGraph validates a whole state whenever it is read, so one bad input or edit would make a thread unreadable for good.
Therefore a value that breaks its type or its bounds is not refused on reading but marked as `InvalidValue`, and refused
before the next node works with the state. Fields of the input carry types only, so that their form stays plain;
`nodes.lifecycle.check_limits` has their bounds.
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

from memory.records import MAX_ADVANTAGE, Categories, Distance, Name, Rating, Record, Text
from nodes.llm.endpoint.usage import Count, Usage
from sim.errors import BadInputError
from sim.leave import LeaveReason

GUEST = "guest"
DEFAULT_STEPS = 20
# Five nodes a round stay within the 10,007 steps that LangGraph takes by default.
MAX_STEPS = 2_000
# The longest title of a catalogue; prompts and memory show its beginning.
MAX_TITLE = 25_000
# Longest prompt or reply that a state shows, and most roles whose last conversation it shows.
MAX_PROMPT = 2_000_000
MAX_ROLES = 50
MAX_KEY = 100
# Records of a visit, a few of each round.
MAX_RECORDS = 10_000
Title = Annotated[str, Field(max_length=MAX_TITLE)]
Stance = Annotated[float, Field(ge=-5, le=5, allow_inf_nan=False)]
"""How well things stand, as the Critic says."""
Risk = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Entry = TypeVar("Entry", bound=BaseModel)


class Exchange(BaseModel):
    """The last conversation of one role with its model, for reading while one steps."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    prompt: str = Field("", max_length=MAX_PROMPT)
    """What the model was sent: the role's prompt, then the facts."""
    reply: str = Field("", max_length=MAX_PROMPT)
    """What the model wrote, as it came."""
    outcome: str = Field("", max_length=100)
    """How the reply was used: ok, repaired, asked_again or fallback."""
    fault: Text = ""
    """What was wrong with the reply, empty when nothing was."""
    round: int = 0
    """Number of the round that it was about, from 0."""


class Candidate(BaseModel):
    """One item of the shortlist, with what the logs say about it for this user."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    item_id: Name
    title: Title
    genres: Categories = []
    predicted: Rating
    """Rating that the logs model predicts, 1 to 5."""
    distance: Distance | None = None
    """Least cosine distance (0 to 2) to the last four recommended items, by the logs model; none at first."""
    risk: Risk | None = None
    """Risk that the user leaves after it, as the outlook has learned; none without an outlook."""
    before: Rating | Literal["left"] | None = None
    """What the user made of it in this very situation on a former visit: the rating, or `left`."""


class Proposal(BaseModel):
    """What the Actor proposes: what it wrote, and the catalogue item that this stands for."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    text: Title = ""
    """The title as the Actor wrote it."""
    item_id: Name = ""
    """Id of the item; change this, or the title, to recommend something else."""
    title: Title = ""
    genres: Categories = []


class Profile(BaseModel):
    """What is known of a person who visits, in their own words and ratings. They can read and correct it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Text = ""
    """Wishes and comments, one a line, the latest last."""
    ratings: dict[Name, Annotated[float, Field(ge=1, le=5)]] = Field({}, max_length=100_000)
    """Ratings (1 to 5) by item id, of this visit and earlier ones."""
    seen: list[Name] = Field([], max_length=100_000)
    """Ids of items that they know already, or never want: neither is recommended again."""


class LessonView(BaseModel):
    """A lesson as the roles are told it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Text
    support: Count = 1
    """Number of visits that taught the same."""
    length: float = Field(0.0, ge=0, le=1e6, allow_inf_nan=False)
    """Mean number of rounds of those visits."""


class ExperienceView(BaseModel):
    """An experience as the Actor is told it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    item_id: Name = ""
    title: Title
    genres: Categories = []
    distance: Distance | None = None
    """Distance of the item to the four before it, as in the shortlist."""
    advantage: float = Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)
    """How much better than expected the recommendation turned out; below 0 is worse."""
    similarity: float = Field(ge=-1.01, le=1.01)
    """Cosine similarity of the situation then to the situation now."""
    before: Rating | Literal["left"] | None = None
    """The user's rating, or `left`, where it is of this very user and situation."""


class Step(BaseModel):
    """One round of a visit. The user appends it, the Critic completes it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    index: int = Field(ge=0, lt=MAX_STEPS)
    """Number of the round, from 0."""
    plan: Text = ""
    proposed: Title = ""
    """What the Actor wrote."""
    item_id: Name = ""
    title: Title = ""
    genres: Categories = []
    predicted: Rating = 0.0
    """Rating that the logs model predicted."""
    distance: Distance | None = None
    """Least distance to the last four recommended items, by the logs model; none in the first round."""
    risk: Risk | None = None
    """Risk that the user would leave, by the outlook; none where it did not list the item."""
    reward: Rating = 0.0
    """The user's rating, 1 to 5."""
    value: Stance = 0.0
    """V(s_t): how well things stood before the round, -5 to 5."""
    next_value: Stance | None = None
    """V(s_{t+1}), given before the round's reward is known; none where no Critic takes part."""
    advantage: Annotated[float, Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)] | None = None
    """How much better than expected the round went; none where no Critic takes part."""
    skipped: bool = False
    """Whether a person passed over the item without a rating; the reward is then a neutral 3."""
    reason: Text = ""
    """Why an LLM as the user rates so, and stays or leaves, in its words; empty for every other user."""
    left: bool = False
    """Whether the user left after this round."""
    outcomes: dict[Name, Annotated[str, Field(max_length=100)]] = Field({}, max_length=MAX_ROLES)
    """How the reply of each role in this round was used, as in `exchange`; the Reflector's stands in the last round."""
    usage: Usage = Usage()
    """Model calls and tokens of this round."""


class InvalidValue(BaseModel):
    """Stand-in for a value that breaks the type or the bounds of its field."""

    fault: str
    key: int | str = ""
    """Key of the entry in its list, where it is one."""


def first_fault(error: ValidationError) -> str:
    """Return what is wrong first, with the place in the value, such as `0.title: …`."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place[:200]}: {fault['msg']}" if place else fault["msg"]


def keyed(
    model: type[Entry], key: Callable[[Entry], Any], name: str, most: int
) -> Callable[[Any, Sequence[Any]], list[Any]]:
    """Return a reducer for a `DeltaChannel` that keeps one entry a key, the latest winning, in order of arrival.

    The reducer never raises, since one that does makes a thread unreadable for good. An edit over the API may bring
    anything: an object with the key's field `name` that is no valid entry is kept as an `InvalidValue` in its place, so
    that the next node names it and another edit mends it; everything else is left out. So are the entries of one write
    after the first `most`, of which the longest visit has fewer.
    """
    entry: TypeAdapter[Entry] = TypeAdapter(model)

    def valid(entries: Any) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        for one in (entries if isinstance(entries, list) else [entries])[:most]:
            if isinstance(one, model):
                found.append((key(one), one))
            elif isinstance(one, InvalidValue):
                found.append((one.key, one))
            else:
                try:
                    made = entry.validate_python(one)
                except ValidationError as error:
                    place = one.get(name) if isinstance(one, dict) else None
                    if isinstance(place, str):
                        place = place[:MAX_KEY]
                    if isinstance(place, int | str):
                        found.append((place, InvalidValue(fault=first_fault(error), key=place)))
                else:
                    found.append((key(made), made))
        return found

    def reduce(current: Any, writes: Sequence[Any]) -> list[Any]:
        merged = dict(valid(current or []))
        for write in writes:
            merged.update(valid(write))
        return list(merged.values())

    return reduce


class _Readable(BaseModel):
    """State that can always be read; `check_types` says what is wrong with it."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _mark_invalid(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        entries = value if isinstance(value, list) else []
        for one in entries:
            if isinstance(one, InvalidValue):
                return InvalidValue(fault=f"{one.key}: {one.fault}")
        try:
            return handler(value)
        except ValidationError as error:
            return InvalidValue(fault=first_fault(error))

    def check_types(self) -> None:
        """Check that every field keeps to its type and bounds.

        Raises:
            BadInputError: One does not; the message names it.
        """
        for name, value in self.__dict__.items():
            if isinstance(value, InvalidValue):
                raise BadInputError(f"{name}: {value.fault}")


class VisitInput(_Readable):
    """The identity of a visit: who visits which world, from which seed, for how long."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

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


class VisitStart(RecommendInput):
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
    visit: Count = 0
    """Number of this visit on its thread, from 1."""
    visit_id: Name = ""
    """Id of this visit as it began; a copy of the thread continues under an id of its own (`VisitMemory.visit_id`)."""
    edited: bool = False
    """Whether somebody edited the state of this visit; from then on it teaches nobody but whoever runs it."""
    profile: Profile | None = None
    """What is known of the person who visits; none where the user is simulated."""
    said: list[Record] = Field([], max_length=10)
    """What a person said as the visit began; written with their first answer."""
    plan: Text = ""
    """The Planner's plan for this round; edit it, and the Actor follows the edit."""
    lessons: list[LessonView] = Field([], max_length=100)
    """Lessons recalled for this visit."""
    experiences: list[ExperienceView] = Field([], max_length=200)
    """Experiences recalled for this round."""
    shortlist: list[Candidate] = Field([], max_length=1_000)
    """Items among which the Actor chooses in this round."""
    foreseen: list[Candidate] = Field([], max_length=1_000)
    """What the outlook puts before the Actor in this round; without any, the Actor makes its own shortlist."""
    proposal: Proposal | None = None
    """The item about to be recommended; edit it, and the user gets the edit."""
    value: Stance = 0.0
    """V(s_t): the Critic's view of how well things stand, -5 to 5."""
    exchange: dict[Name, Exchange] = Field({}, max_length=MAX_ROLES)
    """Last prompt, raw reply and repair of each role."""
    usage: Usage = Usage()
    """Model calls and tokens of the visit so far."""
    steps: Annotated[list[Step], DeltaChannel(keyed(Step, lambda step: step.index, "index", MAX_STEPS + 1))] = []
    """The rounds so far."""
    records: Annotated[list[Record], DeltaChannel(keyed(Record, lambda record: record.key, "key", MAX_RECORDS))] = []
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
    lessons: list[LessonView] = []
    """Lessons that the visit recalled; none where no role asks for them."""
    usage: Usage
    records: list[Record]
    """Memories of the visit, where `learn` is `cohort`."""
