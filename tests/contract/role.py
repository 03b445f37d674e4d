"""The built-in roles, each with a variant in which it stands, for the contract that every role keeps to."""

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
