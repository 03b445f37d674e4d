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

# Width of the kernel over distances that weights experiences and values.
DISTANCE_WIDTH = 0.15
# Weight of the prior belief without any memory, in records.
PRIOR_WEIGHT = 1.0
# Bonus for an item for which the user stayed in the same situation before, and penalty for one after which the user
# left.
KNOWN = 3.0
LEFT_BEFORE = 1_000.0
# Hazard of each of the last four items with which nobody has taken an item yet, and of each visit that ended when it
# met one of them.
STRANGE = 0.005
ENDED = 0.05
# Rating points that each unit of distance below or above the plan's bounds costs. Pairs that users stayed for in
# another visit are no leave to come nearer: users differ, and so do the tables of rewards of train and test visits.
BREACH = 50
# Number of rounds, each at the risk of the last one, over which the Critic computes the chance that the user stays. The
# risk of a single round is so small that the rewards would hide it.
LASTING = 50
# Distance added to that of the item after which a user left, as the least distance of later items.
DISTANCE_MARGIN = 0.2
# Least rounds of the bands above a distance, and of all bands, from which a lesson on that distance is drawn.
EVIDENCE_PAIRS = 50
# Least pairs of the nearest band whose distances count as safe.
EDGE_PAIRS = 10
# Largest share of the pairs of a band that ended visits, at which its distances are safe.
SAFE_SHARE = 0.01
# Weight of the user's mean rating, in ratings, against their own ratings of a category.
TASTE_PRIOR = 5
# Rating points below the user's mean at which the user leaves.
DISLIKED = 0.5
# Summed category overlap with the last four items at which the user leaves.
TIRED = 1.25


def plan(facts: Facts) -> Facts:
    """Plan two categories that the user likes and the last four items lack, and follow lessons and wishes."""
    categories = _categories(facts)
    asked = _asked(facts)
    # What many visits show counts more than lessons of single ones, and a person's own word more than both.
    shown = Wishes(least=_safe_distance(facts.get("evidence", [])))
    taught = _both(_both(_lesson_wishes(facts, categories), shown), asked)
    counts = Counter(genre for item in facts["history"] for genre in item["genres"])
    disliked = _disliked(facts)
    choice = {one["category"]: one for one in facts.get("choice", [])}
    unmet = facts.get("unmet", {})
    # Nobody tires of what they ask for.
    recent = {name for name, one in choice.items() if 0 < one["ago"] <= WINDOW}.difference(asked.want)
    tired = {*recent, *unmet.get("categories", []), *taught.avoid, *disliked}
    fresh = [name for name in categories if name not in tired]
    wanted = sorted(
        fresh,
        key=lambda name: (
            name not in taught.want,
            # A category without good items at a safe distance can hardly be met.
            name in choice and not choice[name]["good"],
            -counts[name],
            name,
        ),
    )[:2]
    parts = [f"Recommend {' or '.join(wanted)}"] if wanted else ["Recommend what the user likes best"]
    left_out = sorted({*taught.avoid, *disliked})
    if left_out:
        parts.append(f"leave out {', '.join(left_out)}")
    if taught.least is not None:
        parts.append(f"keep a distance of at least {taught.least:.2f} from the last four items")
    if taught.most is not None:
        parts.append(f"keep a distance of at most {taught.most:.2f} from the last four items")
    return {"plan": "; ".join(parts) + "."}


def _asked(facts: Facts) -> Wishes:
    """Return a person's wishes as the facts have understood them.

    Categories to be left out together, such as romantic comedies, may be wanted apart.
    """
    understood = facts.get("understood", {})
    return Wishes(
        want=tuple(dict.fromkeys(name for names in understood.get("asked_for", []) for name in names)),
        avoid=tuple(names[0] for names in understood.get("left_out", []) if len(names) == 1),
        least=understood.get("least_distance"),
        most=understood.get("most_distance"),
    )


def _categories(facts: Facts) -> list[str]:
    """Return the known categories: those of the catalogue if given, else those in the other facts."""
    if "categories" in facts:
        return list(facts["categories"])
    shown = (*facts["history"], *facts["rounds"], *facts.get("experiences", []))
    seen = {genre for one in shown for genre in one.get("genres", [])}
    rows = (*facts.get("choice", []), *facts.get("earlier_categories", []))
    return sorted(seen.union(one["category"] for one in rows))


def _lesson_wishes(facts: Facts, categories: list[str]) -> Wishes:
    """Return the wishes of all lessons as one; of different distances the stricter one counts.

    A category that has good items for this user is not left out: the lesson may be of a user with another taste.
    """
    read = [read_wishes(one["text"], categories) for one in facts["lessons"]]
    good = {one["category"] for one in facts.get("choice", []) if one["good"]}
    return Wishes(
        want=tuple(dict.fromkeys(name for wishes in read for name in wishes.want)),
        avoid=tuple(dict.fromkeys(name for wishes in read for name in wishes.avoid if name not in good)),
        least=max((wishes.least for wishes in read if wishes.least is not None), default=None),
        most=min((wishes.most for wishes in read if wishes.most is not None), default=None),
    )


def _both(weak: Wishes, strong: Wishes) -> Wishes:
    """Return two wishes as one; the strong one wins a contradiction."""
    least = weak.least if strong.least is None else strong.least
    most = weak.most if strong.most is None else strong.most
    if least is not None and most is not None and least > most and (strong.least, strong.most) != (None, None):
        least, most = strong.least, strong.most
    return Wishes(
        want=(*strong.want, *(name for name in weak.want if name not in strong.avoid)),
        avoid=(*strong.avoid, *(name for name in weak.avoid if name not in strong.want)),
        least=least,
        most=most,
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
    asked = _asked(facts)
    before = _window(facts)
    to_come = facts["to_come"]["rounds"] * facts["to_come"]["reward"]

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
            # The expected return less `to_come`, so that it compares with a known rating.
            return float(one["predicted"] - one["risk"] * (one["predicted"] + to_come) + bonus)
        lost = BREACH * _breach(one["distance"], wishes)
        lost += to_come * ENDED * one.get("ended", 0)
        if "known" in one:
            lost += to_come * STRANGE * (before - one["known"])
        return float(one["predicted"] + bonus - lost + _expected(one, facts))

    # The first of equals wins, so the order of the shortlist breaks ties.
    return {"item": max(facts["candidates"], key=score)["title"]}


def _written(facts: Facts) -> str:
    """Return a title from the facts: the title of the best experience, else one made up from categories."""
    categories = _categories(facts)
    wishes = _both(read_wishes(facts["plan"], categories), _asked(facts))
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
    risk = facts["now"].get("risk", _risk_by_evidence(facts["now"], _window(facts), facts))
    if risk is not None:
        stays = (1 - risk) ** LASTING
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


def _risk_by_evidence(one: Facts, before: int, facts: Facts) -> float | None:
    """Return the risk that the user leaves after an item, by pairs and distances; None without enough evidence.

    Each of the last items with which nobody has taken the item counts as much as pairs of the distance of the nearest.

    Args:
        one: The item.
        before: Number of the items before it, at most four.
        facts: All facts.
    """
    evidence = facts.get("evidence", [])
    distance = one.get("to_unknown") if one.get("known") else one.get("distance")
    if "distance" not in one or not before or sum(band["pairs"] for band in evidence) < EVIDENCE_PAIRS:
        return None
    strangers = before - one.get("known", 0) if distance is not None else 0
    near = [band for band in evidence if distance is not None and band["from"] <= distance][-1:]
    # One pair more stands for the unknown, with the share of all bands.
    share = (sum(band["ended"] for band in near) + _share_left(evidence)) / (sum(band["pairs"] for band in near) + 1)
    return float(1 - math.exp(-strangers * share - ENDED * one.get("ended", 0)))


def _window(facts: Facts) -> int:
    """Return the number of rounds before the next one, at most four."""
    earlier: int = facts.get("earlier", {}).get("rounds", 0)
    return min(WINDOW, len(facts["rounds"]) + earlier)


def _same_title(facts: Facts) -> float | None:
    """Return the distance known from titles alone: 0 if the item is among the last four, else None."""
    return 0.0 if facts["now"]["title"] in [one["title"] for one in facts["rounds"][-WINDOW:]] else None


def reflect(facts: Facts) -> Facts:
    """Write a lesson: the least distance to keep, and the categories to avoid.

    With evidence of enough rounds the distance comes from it, and the lesson replaces the shown ones that name another.
    Otherwise it comes from this visit alone.
    """
    evidence = facts.get("evidence", [])
    enough = sum(band["pairs"] for band in evidence) >= EVIDENCE_PAIRS
    keep = _safe_distance(evidence) if enough else _distance_of_visit(facts)
    lessons = [] if keep is None else [f"Keep a distance of at least {keep:.1f} from the last four items."]
    disliked = _disliked(facts)
    if disliked:
        lessons.append(f"Leave out {', '.join(sorted(disliked))}.")
    return {
        "lesson": " ".join(lessons) or "Recommend what the user likes best.",
        "replaces": _contradicted(facts["lessons"], keep) if enough and keep is not None else [],
    }


def _distance_of_visit(facts: Facts) -> float | None:
    """Return the distance to keep by this visit; None if no item had one.

    It is larger than that of the item after which the user left. If the user stayed, it is the least of the visit.
    """
    distances = [one["distance"] for one in facts["rounds"] if one["distance"] is not None]
    if not distances:
        return None
    return _rounded(distances[-1] + DISTANCE_MARGIN if facts["outcome"]["left"] else min(distances))


def _safe_distance(evidence: list[Facts]) -> float | None:
    """Return the least lower edge of a band from which on few pairs of any band ended a visit.

    None if there is no such edge with enough pairs above it.
    """
    for edge in sorted(band["from"] for band in evidence):
        above = sorted((band for band in evidence if band["from"] >= edge), key=lambda band: float(band["from"]))
        enough = sum(band["pairs"] for band in above) >= EVIDENCE_PAIRS
        # A band of few pairs, none of which ended a visit yet, tells nothing of its distances.
        enough = enough and above[0]["pairs"] >= EDGE_PAIRS
        if enough and all(_share_left([band]) <= SAFE_SHARE for band in above):
            return _rounded(edge)
    return None


def _share_left(bands: list[Facts]) -> float:
    return float(sum(one["ended"] for one in bands) / max(1, sum(one["pairs"] for one in bands)))


def _contradicted(lessons: list[Facts], keep: float) -> list[int]:
    """Return the numbers of the lessons that name another least distance, or demand a smaller one."""
    read = [(one["number"], read_wishes(one["text"], [])) for one in lessons]
    return [
        number
        for number, wishes in read
        if (wishes.least is not None and _rounded(wishes.least) != keep)
        or (wishes.most is not None and wishes.most < keep)
    ]


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
