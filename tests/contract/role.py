"""Built-in roles, each with a variant that contains it, for the role contract."""

from graph.conformance import RoleContract as RoleContract

BUILT_IN = {
    "planner": "billp",
    "actor": "billp",
    "user": "billp",
    "critic": "billp",
    "reflector": "billp",
    "plan_and_act": "merge_plan_and_act",
    "outlook": "billp_outlook",
    "llm_user": "billp_llm_user",
}
