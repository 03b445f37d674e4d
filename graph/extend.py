r"""Names for authors of roles and of agents, in one import.

Example:
    A role that tells the Actor the mean rating so far, in a file `mood.py`::

        from typing import Any

        from pydantic import BaseModel, Field

        from graph.extend import VARIANTS, Facts, Role, View, compiled, round_facts


        class Mood(BaseModel):
            mood: str = Field(min_length=1, max_length=200)


        def facts(view: View) -> Facts:
            return {"rounds": round_facts(view.state.steps)}


        def rules(facts: Facts) -> Mood:
            rewards = [one["reward"] for one in facts["rounds"]]
            return Mood(mood="pleased" if not rewards or sum(rewards) >= 3 * len(rewards) else "bored")


        def apply(answer: Mood, view: View) -> dict[str, Any]:
            return {"plan": f"{view.state.plan} The user is {answer.mood}.".strip()}


        PROMPT = "Name the user's mood. Answer with JSON only: `{\"mood\": \"…\"}`"
        mood = Role("mood", PROMPT, Mood, facts=facts, rules=rules, apply=apply)
        variant = VARIANTS["billp"].before("actor", mood)
        graph = compiled("mood", variant)

    `billp episode --world tiny --variant ./mood.py:variant` plays it.

`billp_tool` makes a visit a tool of an agent.
"""

from graph.agent_tool import billp_tool
from graph.episode import compiled
from graph.variants import VARIANTS, Variant
from memory.recall import Recalled
from memory.records import Memory, Record
from nodes.ask import ask_role, settings
from nodes.context import Context, prompt_field
from nodes.llm.prompting import Facts
from nodes.prompt_facts import history_facts, round_facts
from nodes.role import Role, View, saves_records
from nodes.state import Step, VisitInput, VisitState
from nodes.user_view import Visitor, visitor
from nodes.users.simulated import user
from nodes.visit_memory import VisitMemory, visit_memory, writes_memory
from sim.leave import WINDOW

__all__ = [
    "VARIANTS",
    "WINDOW",
    "Context",
    "Facts",
    "Memory",
    "Recalled",
    "Record",
    "Role",
    "Step",
    "Variant",
    "View",
    "VisitInput",
    "VisitMemory",
    "VisitState",
    "Visitor",
    "ask_role",
    "billp_tool",
    "compiled",
    "history_facts",
    "prompt_field",
    "round_facts",
    "saves_records",
    "settings",
    "user",
    "visit_memory",
    "visitor",
    "writes_memory",
]
