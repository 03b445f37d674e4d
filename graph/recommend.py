"""Graph of a visit with a person as the user, who is asked about each item."""

from graph.episode import build_episode
from nodes.actor import actor
from nodes.critic import critic
from nodes.planner import planner
from nodes.reflector import reflector
from nodes.state import RecommendInput
from nodes.users.person import greet, person, person_name

builder = build_episode(
    planner,
    actor,
    person,
    critic,
    at_end=(reflector,),
    begin=greet,
    input_schema=RecommendInput,
    variant="recommend",
    named_by=person_name,
)
graph = builder.compile(name="recommend")
