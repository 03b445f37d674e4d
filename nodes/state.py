"""State of a visit: input, fields that the nodes share, and output.

LangGraph validates the whole state at each read, so one bad input or edit would make a thread unreadable for good.
Therefore reading accepts a value that breaks its type or its bounds and marks it as an `InvalidValue`; the next node
refuses it before it works with the state. Input fields carry types only, so that their form in Studio stays plain;
their bounds are in `nodes.lifecycle.check_limits`.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

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

from memory.records import (
    MAX_ADVANTAGE,
    MAX_KEY,
    V_MAX,
    Categories,
    Distance,
    Keys,
    Name,
    Predicted,
    Rating,
    Record,
    Risk,
    Text,
)
from nodes.llm.endpoint.usage import Count, Usage
from nodes.llm.text.understood import Understood
from sim.errors import BadInputError
from sim.leave import LeaveReason

GUEST = "guest"
DEFAULT_STEPS = 20
# Five nodes a round stay within the 10,007 steps that LangGraph takes by default.
MAX_STEPS = 2_000
# Most characters of a catalogue title; prompts and memory show its beginning.
MAX_FULL_TITLE = 25_000
# Most characters of a prompt or reply in a state, and most roles with an exchange in it.
MAX_PROMPT = 2_000_000
MAX_ROLES = 50
# Most records of a visit; a round makes a few.
MAX_RECORDS = 10_000
FullTitle = Annotated[str, Field(max_length=MAX_FULL_TITLE)]
Stance = Annotated[float, Field(ge=-V_MAX, le=V_MAX, allow_inf_nan=False)]
"""Value V of a state, as estimated by the Critic."""
Entry = TypeVar("Entry", bound=BaseModel)


class Exchange(BaseModel):
    """Last exchange of one role with its model, to read while stepping through a visit."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    prompt: str = Field("", max_length=MAX_PROMPT)
    """Text sent to the model: the role's prompt, then the facts."""
    reply: str = Field("", max_length=MAX_PROMPT)
    """Raw reply of the model."""
    outcome: str = Field("", max_length=100)
    """Outcome of the reply: ok, repaired, asked_again or fallback."""
    fault: Text = ""
    """Fault of the reply; empty if it had none."""
    round: int = 0
    """Number of the round that the exchange is about, from 0."""


class Candidate(BaseModel):
    """Item of the shortlist, with the logs model's figures for this user."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    item_id: Name
    title: FullTitle
    genres: Categories = []
    predicted: Predicted
    """Rating predicted by the logs model; it may lie outside 1 to 5."""
    distance: Distance | None = None
    """Least cosine distance (0 to 2) to the last four recommended items, by the logs model; none in the first round."""
    risk: Risk | None = None
    """Risk that the user leaves after the item, learned by the outlook; none without an outlook."""
    prior_risk: Risk | None = None
    """The same without what is known of pairs of items, to measure what they tell; no role sees it."""
    known: Count | None = None
    """Number of the last four items with which users have taken the item and stayed; none without evidence."""
    to_unknown: Distance | None = None
    """Least distance to the others of the last four items; none without them or without evidence."""
    ended: Count | None = None
    """Number of visits that ended when the item met one of the last four; none without evidence."""
    before: Rating | Literal["left"] | None = None
    """Reaction of the user to the item in the same situation on a former visit: the rating, or `left`."""


class Proposal(BaseModel):
    """Proposal of the Actor: its text, and the catalogue item to which the text was grounded."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    text: FullTitle = ""
    """Title as the Actor wrote it."""
    item_id: Name = ""
    """Id of the item; edit it, or the title, to recommend another item."""
    title: FullTitle = ""
    genres: Categories = []


class Profile(BaseModel):
    """Profile of a person who visits, in their own words and ratings. They can read and correct it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Text = ""
    """Wishes and comments, one a line, latest last."""
    ratings: dict[Name, Annotated[float, Field(ge=1, le=5)]] = Field({}, max_length=100_000)
    """Ratings (1 to 5) by item id, of this visit and earlier ones."""
    had: list[Name] = Field([], max_length=100_000)
    """Ids of items that the person named, rated or has seen, oldest first: their history, not recommended again."""
    seen: list[Name] = Field([], max_length=100_000)
    """Ids of those that the person knew when they were recommended; history at once, also in the same visit."""
    never: list[Name] = Field([], max_length=100_000)
    """Ids of items that the person never wants; they are not recommended again."""
    skipped: dict[Name, Annotated[int, Field(ge=1, le=MAX_STEPS)]] = Field({}, max_length=100_000)
    """How often the person said "not now", by item id; such an item may come again, but is ranked lower."""


class LessonView(BaseModel):
    """Lesson as the roles get it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Text
    support: Count = 1
    """Support: number of visits that taught this lesson, or one that it replaced."""
    length: float = Field(0.0, ge=0, le=1e6, allow_inf_nan=False)
    """Mean number of rounds of those visits."""
    keys: Keys = []
    """Keys of the records with this text. A lesson of this visit that replaces it names them."""


class ExperienceView(BaseModel):
    """Experience as the Actor gets it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    item_id: Name = ""
    title: FullTitle
    genres: Categories = []
    distance: Distance | None = None
    """Least distance of the item to the four items before it, as in the shortlist."""
    advantage: float = Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)
    """Advantage: how much better than expected the recommendation turned out; below 0 is worse."""
    similarity: float = Field(ge=-1.01, le=1.01)
    """Cosine similarity of the situation then and the situation now."""
    before: Rating | Literal["left"] | None = None
    """The user's rating, or `left`, if the experience is of the same user and situation."""


class Step(BaseModel):
    """Round of a visit. The user appends it; the Critic completes it."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    index: int = Field(ge=0, lt=MAX_STEPS)
    """Number of the round, from 0."""
    plan: Text = ""
    proposed: FullTitle = ""
    """Text that the Actor wrote."""
    item_id: Name = ""
    title: FullTitle = ""
    genres: Categories = []
    predicted: Predicted = 0.0
    """Rating predicted by the logs model; it may lie outside 1 to 5."""
    distance: Distance | None = None
    """Least distance to the last four recommended items, by the logs model; none in the first round."""
    risk: Risk | None = None
    """Risk that the user leaves, by the outlook; none if the outlook did not list the item."""
    prior_risk: Risk | None = None
    """The same without what is known of pairs of items."""
    known: Count | None = None
    """Number of the last four items with which users have taken the item and stayed, as on the shortlist."""
    to_unknown: Distance | None = None
    """Least distance to the others of the last four items, as on the shortlist."""
    ended: Count | None = None
    """Number of visits that ended when the item met one of the last four, as on the shortlist."""
    reward: Rating = 0.0
    """Reward r_t: the user's rating, 1 to 5."""
    value: Stance = 0.0
    """V(s_t): value of the state before the round, -5 to 5."""
    next_value: Stance | None = None
    """V(s_{t+1}): value of the state after the round, estimated without the round's reward; none without a Critic."""
    advantage: Annotated[float, Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)] | None = None
    """Advantage A_t: how much better than expected the round went; none without a Critic."""
    skipped: bool = False
    """Whether a person skipped the item without a rating; the reward is then a neutral 3."""
    reason: Text = ""
    """Reason of an LLM as the user for its rating and for staying or leaving; empty for every other user."""
    left: bool = False
    """Whether the user left after this round."""
    outcomes: dict[Name, Annotated[str, Field(max_length=100)]] = Field({}, max_length=MAX_ROLES)
    """Outcome of each role's reply in this round, as in `exchange`; the Reflector's is in the last round."""
    usage: Usage = Usage()
    """Model calls and tokens of this round."""


class InvalidValue(BaseModel):
    """Stand-in for a value that breaks the type or the bounds of its field."""

    fault: str
    key: int | str = ""
    """Key of the entry, if the value is an entry of a list."""


def first_fault(error: ValidationError) -> str:
    """Return the first fault with its place in the value, such as `0.title: …`."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place[:200]}: {fault['msg']}" if place else fault["msg"]


def keyed(
    model: type[Entry], key: Callable[[Entry], Any], name: str, most: int
) -> Callable[[Any, Sequence[Any]], list[Any]]:
    """Return a reducer for a `DeltaChannel` that keeps one entry for each key, in order of arrival; the latest wins.

    The reducer never raises, because an error in it makes a thread unreadable for good. An edit over the API may
    bring any value. An invalid entry with the key's field `name` is kept as an `InvalidValue` in its place, so that
    the next node reports it and another edit can correct it. Every other invalid value is left out. So are the entries
    of one write after the first `most`; the longest visit has fewer.
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
    """State that is always readable; `check_types` reports its faults."""

    @field_validator("*", mode="wrap")
    @classmethod
    def _mark_invalid(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            # An entry that was marked when it was written fits no field.
            for one in value if isinstance(value, list) else []:
                if isinstance(one, InvalidValue):
                    return InvalidValue(fault=f"{one.key}: {one.fault}")
            return InvalidValue(fault=first_fault(error))

    def check_types(self) -> None:
        """Check that every field keeps its type and bounds.

        Raises:
            BadInputError: A field does not; the message names it.
        """
        for name, value in self.__dict__.items():
            if isinstance(value, InvalidValue):
                raise BadInputError(f"{name}: {value.fault}")


class VisitInput(_Readable):
    """Identity of a visit: world, user, history, seed and most rounds."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )

    world: str = Field("", examples=["movielens", "tiny"])
    """Name of the world; empty for the default one (movielens if the extra is installed, else tiny)."""
    user_id: str = Field("", examples=["1"])
    """Id of the user; empty for the world's first dev user."""
    history: list[str] = Field([], examples=[["Toy Story", "Heat"]])
    """Titles that the user liked before, oldest first; required for a user whom the world does not know."""
    seed: int = 0
    """Seed for random draws of a role (the built-in roles draw nothing); it also tells a user's visits apart if nothing
    else does."""
    max_steps: int = DEFAULT_STEPS
    """Most rounds of the visit."""


class RecommendInput(VisitInput):
    """Identity of a person's visit, and their wishes."""

    user_id: str = Field(GUEST, examples=[GUEST])
    """Name of the person; memories and profile are kept under it."""
    history: list[str] = Field([], examples=[["Toy Story", "Heat"]])
    """A few titles that the person likes; optional."""
    wishes: str = Field("", examples=["slow films, no horror"])
    """Wishes of the person in their own words; they go into the profile."""


class Identity(VisitInput, extra="ignore"):
    """Identity of the current visit."""


class VisitStart(RecommendInput, extra="ignore"):
    """Input of the first node: the input of the visit, the number of former visits on its thread, and its place."""

    user_id: str = ""
    visit: int = 0
    place: str = ""


class VisitState(VisitInput, extra="ignore"):
    """State that the nodes of a visit share.

    The input fields live for one step only: if a later input on the same thread leaves a field out, it gets the
    default, not the value of a former visit. The first node saves the input fields as `identity`, from which every
    other node gets them.
    """

    world: Annotated[str, EphemeralValue(str)] = ""
    user_id: Annotated[str, EphemeralValue(str)] = ""
    history: Annotated[list[str], EphemeralValue(list)] = []
    seed: Annotated[int, EphemeralValue(int)] = 0
    max_steps: Annotated[int, EphemeralValue(int)] = DEFAULT_STEPS
    wishes: Annotated[str, EphemeralValue(str)] = ""
    """Wishes of the person for this visit; `greet` adds them to the profile."""
    identity: Identity | None = None
    """Identity of the current visit."""
    visit: Count = 0
    """Number of this visit on its thread, from 1."""
    place: str = Field("", pattern=r"^[0-9a-f]*$", max_length=64)
    """Place of this visit on its thread if another graph runs it; empty if the thread counts the visit."""
    visit_id: Name = ""
    """Id of this visit at its start; a copy of the thread continues under a new id (`VisitMemory.visit_id`)."""
    edited: bool = False
    """Whether somebody edited the state of this visit; from then on its memories are private to its user."""
    profile: Profile | None = None
    """Profile of the person who visits; none for a simulated user."""
    said: list[Record] = Field([], max_length=10)
    """Statements of a person at the start of the visit; written to memory with their first answer."""
    understood: Understood | None = None
    """What was understood of the person's profile; none for a simulated user. Roles read the profile itself."""
    plan: Text = ""
    """Plan of the Planner for this round; a plan that a person puts here is an order."""
    own_plan: Text = ""
    """Plan as the Planner wrote it."""
    ordered: bool = False
    """Whether an edit brought the plan; every edit of a plan sets it, and the Actor resets it."""
    unmet: list[Text] = Field([], max_length=100)
    """What a person asked for and the catalogue has no item for in this round, and why."""
    lessons: list[LessonView] = Field([], max_length=100)
    """Lessons recalled for this visit."""
    experiences: list[ExperienceView] = Field([], max_length=200)
    """Experiences recalled for this round."""
    told: list[Name] = Field([], max_length=1_000)
    """Names of the experiences that the last rounds told."""
    shortlist: list[Candidate] = Field([], max_length=1_000)
    """Candidates of the Actor in this round."""
    foreseen: list[Candidate] = Field([], max_length=1_000)
    """Candidates that the outlook chose for this round; if empty, the Actor makes its own shortlist."""
    foreseen_plan: Text | None = None
    """Plan by which the outlook chose them; if the plan has changed since, the Actor asks the outlook again."""
    proposal: Proposal | None = None
    """Item about to be recommended; edit it, and the user gets the edit."""
    value: Stance = 0.0
    """V(s_t): value of the current state, estimated by the Critic, -5 to 5."""
    exchange: dict[Name, Exchange] = Field({}, max_length=MAX_ROLES)
    """Last prompt, raw reply and outcome of each role."""
    usage: Usage = Usage()
    """Model calls and tokens of the visit so far."""
    steps: Annotated[list[Step], DeltaChannel(keyed(Step, lambda step: step.index, "index", MAX_STEPS + 1))] = []
    """Rounds so far."""
    records: Annotated[list[Record], DeltaChannel(keyed(Record, lambda record: record.key, "key", MAX_RECORDS))] = []
    """Records to write to memory at the end of the cohort."""
    left: bool = False
    """Whether the user has left."""
    leave_reason: LeaveReason | None = None
    """Reason why the user left, from the world; no role sees it."""

    @property
    def order(self) -> str:
        """The plan if a person wrote it and no round has followed it yet; else empty."""
        return self.plan if self.ordered and self.plan != self.own_plan else ""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_identity(cls, fields: Any) -> Any:
        identity = fields.get("identity") if isinstance(fields, dict) else None
        known = dict(identity) if isinstance(identity, Identity | dict) else {}
        return known | fields if known else fields


class VisitProgress(_Readable):
    """Result of a visit so far: the output of the graphs, which streams and interrupts give before the end too.

    Lengths and rewards are set at the end. They exclude the round after which the user left, unless named otherwise.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    user_id: str = ""
    steps: list[Step] = []
    # Gone as soon as the thread goes on: a further visit has no lengths and rewards before its own end.
    length: Annotated[int, EphemeralValue(int)] = 0
    """Number of rounds without the leaving round."""
    length_with_exit: Annotated[int, EphemeralValue(int)] = 0
    """Number of rounds with the leaving round."""
    total_reward: Annotated[float, EphemeralValue(float)] = 0.0
    mean_reward: Annotated[float, EphemeralValue(float)] = 0.0
    left: bool = False
    leave_reason: LeaveReason | None = None
    lessons: list[LessonView] = []
    """Lessons that the visit recalled; empty if no role asks for them."""
    usage: Usage = Usage()
    records: list[Record] = []
    """Records of the visit, if `learn` is `cohort`."""


class VisitOutput(VisitProgress):
    """Result of a finished visit, with every field set and valid."""

    user_id: str
    steps: list[Step]
    length: int
    length_with_exit: int
    total_reward: float
    mean_reward: float
    left: bool
    leave_reason: LeaveReason | None
    usage: Usage
    records: list[Record]

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.check_types()
        return self
