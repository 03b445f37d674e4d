"""Deterministic model `rules`: plays each role by written rules, from nothing but the facts of the prompt.

The model is not an LLM, and its results are no evidence that an LLM learns. It runs the demo and the tests, and shows
that the pipeline uses the memories that it recalls. docs/rules-model.md states the rules in words.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from nodes.llm.prompting import Facts, read_facts
from nodes.llm.text.tokens import count_tokens
from nodes.llm.text.wish_grammar import Wishes, read_wishes
from sim.errors import BadInputError
from sim.leave import WINDOW
from sim.policies.leave_risk import AHEAD

# Width of the kernel over distances that weights experiences and values.
DISTANCE_WIDTH = 0.15
# Weight of the prior belief without any memory, in records.
PRIOR_WEIGHT = 1.0
# Bonus for an item for which the user stayed in the same situation before, and penalty for one after which the user
# left.
KNOWN = 3.0
LEFT_BEFORE = 1_000.0
# Number of rounds, each at the risk of the last one, over which the Critic computes the chance that the user stays. The
# risk of a single round is so small that the rewards would hide it.
LASTING = 50
# Distance added to that of the item after which a user left, as the least distance of later items.
DISTANCE_MARGIN = 0.2
# Weight of the user's mean rating, in ratings, against their own ratings of a category.
TASTE_PRIOR = 5
# Rating points below the user's mean at which the user leaves.
DISLIKED = 0.5
# Summed category overlap with the last four items at which the user leaves.
TIRED = 1.25


def plan(facts: Facts) -> Facts:
    """Plan two categories that the user likes and the last four items lack, and follow lessons and wishes."""
    categories = _categories(facts)
    asked = read_wishes("\n".join(facts.get("wishes", [])), categories)
    taught = _both(_lesson_wishes(facts, categories), asked)
    counts = Counter(genre for item in facts["history"] for genre in item["genres"])
    disliked = _disliked(facts)
    tired = {*facts.get("recent_categories", []), *taught.avoid, *disliked}
    fresh = [name for name in categories if name not in tired]
    wanted = sorted(fresh, key=lambda name: (name not in taught.want, -counts[name], name))[:2]
    parts = [f"Recommend {' or '.join(wanted)}"] if wanted else ["Recommend what the user likes best"]
    left_out = sorted({*taught.avoid, *disliked})
    if left_out:
        parts.append(f"leave out {', '.join(left_out)}")
    if taught.least is not None:
        parts.append(f"keep a distance of at least {taught.least:.2f} from the last four items")
    if taught.most is not None:
        parts.append(f"keep a distance of at most {taught.most:.2f} from the last four items")
    return {"plan": "; ".join(parts) + "."}


def _categories(facts: Facts) -> list[str]:
    """Return the known categories: those of the catalogue if given, else those in the other facts."""
    if "categories" in facts:
        return list(facts["categories"])
    shown = (*facts["history"], *facts["rounds"], *facts.get("experiences", []))
    seen = {genre for one in shown for genre in one.get("genres", [])}
    return sorted(seen.union(one["category"] for one in facts.get("earlier_categories", [])))


def _lesson_wishes(facts: Facts, categories: list[str]) -> Wishes:
    """Return the wishes of all lessons as one; of different distances the stricter one counts."""
    read = [read_wishes(one["text"], categories) for one in facts["lessons"]]
    return Wishes(
        want=tuple(dict.fromkeys(name for wishes in read for name in wishes.want)),
        avoid=tuple(dict.fromkeys(name for wishes in read for name in wishes.avoid)),
        least=max((wishes.least for wishes in read if wishes.least is not None), default=None),
        most=min((wishes.most for wishes in read if wishes.most is not None), default=None),
    )


def _both(taught: Wishes, asked: Wishes) -> Wishes:
    """Return the wishes of the lessons and of the person as one; the person's wish wins a contradiction."""
    return Wishes(
        want=(*asked.want, *(name for name in taught.want if name not in asked.avoid)),
        avoid=(*asked.avoid, *(name for name in taught.avoid if name not in asked.want)),
        least=taught.least if asked.least is None else asked.least,
        most=taught.most if asked.most is None else asked.most,
    )


def _disliked(facts: Facts) -> list[str]:
    """Return the categories that had at least two rounds and a mean reward below 2.5."""
    rewards: dict[str, list[float]] = {
        one["category"]: [one["mean_reward"]] * one["rounds"] for one in facts.get("earlier_categories", [])
    }
    for one in facts["rounds"]:
        for genre in one["genres"]:
            rewards.setdefault(genre, []).append(one["reward"])
    return [genre for genre, seen in rewards.items() if len(seen) > 1 and sum(seen) / len(seen) < 2.5]


def act(facts: Facts) -> Facts:
    """Choose the best candidate by predicted rating, plan, wishes, and the advantages of experiences.

    Without candidates, write a title.
    """
    if "candidates" not in facts:
        return {"item": _written(facts)}
    categories = {genre for one in facts["candidates"] for genre in one["genres"]}
    wishes = read_wishes(facts["plan"], categories)
    asked = read_wishes("\n".join(facts.get("wishes", [])), categories)
    liked = sum(one["predicted"] for one in facts["candidates"]) / len(facts["candidates"])

    def score(one: Facts) -> float:
        genres = set(one["genres"])
        risk_is_known = "risk" in one
        # A known risk says more about an item than the categories of the plan.
        planned = 0.1 if risk_is_known else 0.3
        bonus = planned * bool(genres.intersection(wishes.want)) - 1.0 * bool(genres.intersection(wishes.avoid))
        bonus += 1.0 * bool(genres.intersection(asked.want)) - 2.0 * bool(genres.intersection(asked.avoid))
        if one.get("before") == "left":
            return -LEFT_BEFORE
        if one.get("before") is not None:
            # This rating is known; all other scores are estimates.
            return float(one["before"] + bonus + KNOWN)
        if risk_is_known:
            return float(one["predicted"] + bonus - one["risk"] * AHEAD * liked)
        return float(one["predicted"] + bonus - 10 * _breach(one["distance"], wishes) + _expected(one, facts))

    # The first of equals wins, so the order of the shortlist breaks ties.
    return {"item": max(facts["candidates"], key=score)["title"]}


def _written(facts: Facts) -> str:
    """Return a title from the facts: the title of the best experience, else one made up from categories."""
    categories = _categories(facts)
    wishes = _both(read_wishes(facts["plan"], categories), read_wishes("\n".join(facts.get("wishes", [])), categories))
    had = {one["title"] for one in (*facts["history"], *facts["rounds"])}
    good = [
        one
        for one in facts["experiences"]
        if one["advantage"] > 0 and one["title"] not in had and not set(one["genres"]).intersection(wishes.avoid)
    ]
    if good:
        # The first of equals wins, so the most similar situation breaks ties.
        return str(max(good, key=lambda one: one["advantage"])["title"])
    named = dict.fromkeys((*wishes.want, *facts.get("categories_to_try", [])))
    kinds = [name for name in named if name not in wishes.avoid] or categories[:1]
    return " ".join(["The", *kinds, "Tale"])


def _breach(distance: float | None, wishes: Wishes) -> float:
    """Return how far a distance lies outside the plan's bounds; 0 for the first item."""
    if distance is None:
        return 0.0
    below = max(0.0, (wishes.least or 0.0) - distance)
    above = max(0.0, distance - wishes.most) if wishes.most is not None else 0.0
    return below + above


def _expected(candidate: Facts, facts: Facts) -> float:
    """Return the expected advantage of a candidate: the mean over experiences, weighted by similarity."""
    total = weights = 0.0
    for one in facts["experiences"]:
        weight = _distance_kernel(candidate["distance"], one["distance"]) * (
            0.5 + _overlap(candidate["genres"], one["genres"])
        )
        total += weight * one["advantage"]
        weights += weight
    return total / (weights + PRIOR_WEIGHT)


def _distance_kernel(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return float(one is other)
    return math.exp(-(((one - other) / DISTANCE_WIDTH) ** 2))


def _overlap(one: list[str], other: list[str]) -> float:
    """Return the Jaccard index of two sets of categories; 0 if both are empty."""
    union = {*one, *other}
    return len({*one}.intersection(other)) / len(union) if union else 0.0


def judge(facts: Facts) -> Facts:
    """Estimate the value of the situation from the rewards so far and the risk that the user leaves.

    Without a risk, the estimate uses the distance of the last item and the recalled values.
    """
    earlier = facts.get("earlier", {})
    rewards = [one["reward"] for one in facts["rounds"] if "reward" in one]
    if "mean_reward" in earlier:
        rewards += [earlier["mean_reward"]] * earlier["rounds"]
    # The prior is three rounds of reward 3.5. A constant reward r has the value 2 (r - 3).
    liking = 2 * ((sum(rewards) + 3 * 3.5) / (len(rewards) + 3) - 3)
    distance = facts["now"]["distance"] if "distance" in facts["now"] else _same_title(facts)
    if "risk" in facts["now"]:
        stays = (1 - facts["now"]["risk"]) ** LASTING
        return {"value": round(stays * liking - 5 * (1 - stays), 3)}
    prior = liking - (4 * max(0.0, 1 - distance) if distance is not None else 0.0)
    # Recalled values come from other situations: each counts as much as one rating of this visit.
    weights = PRIOR_WEIGHT + len(rewards)
    total = weights * prior
    for one in facts["values"]:
        weight = _distance_kernel(distance, one.get("distance"))
        total += weight * one["target"]
        weights += weight
    return {"value": round(max(-5.0, min(5.0, total / weights)), 3)}


def _same_title(facts: Facts) -> float | None:
    """Return the distance known from titles alone: 0 if the item is among the last four, else None."""
    return 0.0 if facts["now"]["title"] in [one["title"] for one in facts["rounds"][-WINDOW:]] else None


def reflect(facts: Facts) -> Facts:
    """Write a lesson: the least distance to keep, and the categories to avoid.

    The distance is larger than that of the item after which the user left. If the user stayed, it is the least distance
    of the visit.
    """
    distances = [one["distance"] for one in facts["rounds"] if one["distance"] is not None]
    lessons = []
    if distances:
        keep = distances[-1] + DISTANCE_MARGIN if facts["outcome"]["left"] else min(distances)
        lessons.append(f"Keep a distance of at least {_rounded(keep):.1f} from the last four items.")
    disliked = _disliked(facts)
    if disliked:
        lessons.append(f"Leave out {', '.join(sorted(disliked))}.")
    return {"lesson": " ".join(lessons) or "Recommend what the user likes best."}


def _rounded(distance: float) -> float:
    """Return a distance in tenths, so that similar visits write the same lesson."""
    return round(distance * 10) / 10


def play_plan_and_act(facts: Facts) -> Facts:
    """Write a plan, then choose an item by it."""
    planned = plan(facts)
    return planned | act(facts | planned)


def use(facts: Facts) -> Facts:
    """Rate an item by its categories; leave if it is too similar to the last four, or liked much less than most."""
    mean, now, last = facts["mean_rating"], facts["now"], facts["rounds"][-WINDOW:]
    tastes = {one["category"]: one for one in facts["tastes"]}
    known = [tastes[genre] for genre in now["genres"] if genre in tastes]
    leanings = [(one["mean_rating"] - mean) * one["ratings"] / (one["ratings"] + TASTE_PRIOR) for one in known]
    leaning = sum(leanings) / len(leanings) if leanings else 0.0
    alike = sum(_overlap(one["genres"], now["genres"]) for one in last)
    tired = alike >= TIRED or now["again"]
    disliked = bool(last) and leaning <= -DISLIKED
    kind = ", ".join(now["genres"]) or "this"
    reason = f"I have just had too much like it ({kind})." if tired else f"I rate {kind} {mean + leaning:.1f} or so."
    rating = round(max(1.0, min(5.0, mean + leaning)), 2)
    return {"rating": rating, "stay": not (tired or disliked), "reason": reason}


Rules = Callable[[Facts], Facts]
RULES: dict[str, Rules] = {
    "planner": plan,
    "actor": act,
    "plan_and_act": play_plan_and_act,
    "critic": judge,
    "reflector": reflect,
    "user": use,
}


class RulesModel(BaseChatModel):
    """Chat model that answers by rules; it has no state, so the same prompt gets the same answer."""

    rules: Rules | None = None
    """Rules of one role; None for those of the built-in roles."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # The first human message holds the facts, also when the model is asked again.
        facts = read_facts(next((one.text for one in messages if one.type == "human"), ""))
        play = self.rules or RULES.get(facts.get("role", ""))
        if play is None:
            raise BadInputError(
                f"the model `rules` has no rules for the role {facts.get('role')!r}: give `ask_role` its rules"
            )
        text = json.dumps(play(facts), ensure_ascii=False)
        prompt_tokens = sum(count_tokens(message.text) for message in messages)
        completion_tokens = count_tokens(text)
        usage = UsageMetadata(
            input_tokens=prompt_tokens,
            output_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        )
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # The base class would use a thread, which costs more than the rules themselves.
        return self._generate(messages, stop)
