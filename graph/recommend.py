"""Graph of a visit with a person as the user, who is asked about each item."""

from graph.episode import build_episode
from graph.variants import DEFAULT_VARIANT, VARIANTS
from nodes.state import RecommendInput
from nodes.users.person import greet, person, person_name

variant = VARIANTS[DEFAULT_VARIANT].instead_of("user", person)
builder = build_episode(
    *variant.step,
    at_end=variant.at_end,
    begin=greet,
    input_schema=RecommendInput,
    variant="recommend",
    named_by=person_name,
)
graph = builder.compile(name="recommend")
