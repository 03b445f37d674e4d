"""Verdict of a study: the leader and its lead, and what a memory is worth, paired by user."""

from typing import Any

from graph.study.results import RowKey
from graph.study.verdict import study_verdict
from sim.metrics import paired


def visits(*rewards: float) -> list[dict[str, Any]]:
    same = {"length": 2, "length_with_exit": 2, "left": False}
    return [same | {"user_id": str(user), "total_reward": reward} for user, reward in enumerate(rewards)]


BILLP, OUTLOOK = RowKey("billp", None, "full"), RowKey("billp_outlook", None, "full")
TESTED = {
    RowKey("random", None, "full"): visits(6.0, 5.0),
    BILLP: visits(9.0, 4.0),
    BILLP._replace(memory="empty"): visits(1.0, 4.0),
    BILLP._replace(memory="prior"): visits(2.0, 3.0),
    OUTLOOK: visits(2.0, 2.0),
    OUTLOOK._replace(without="lessons"): visits(50.0, 50.0),
    BILLP._replace(memory="shuffled"): visits(60.0, 60.0),
    RowKey("oracle", None, "full"): visits(90.0, 90.0),
}


def verdict(*keys: RowKey) -> Any:
    tested = {key: TESTED[key] for key in keys or TESTED}
    rows = [
        {**key._asdict(), "total_reward": sum(one["total_reward"] for one in own) / len(own)}
        for key, own in tested.items()
    ]
    return study_verdict(tested, rows)


def test_the_leader_is_the_best_whole_variant_but_the_oracle() -> None:
    found = verdict()
    random = TESTED[RowKey("random", None, "full")]
    assert found["lead"] == {"variant": "billp", "runner_up": "random", **paired(TESTED[BILLP], random)}
    assert found["lead"]["difference"] == 1.0 and found["remembers"]
    assert verdict(BILLP, RowKey("oracle", None, "full"))["lead"] is None


def test_memory_is_judged_by_the_best_agent_with_a_control_and_the_prior_before_others() -> None:
    prior, empty = BILLP._replace(memory="prior"), BILLP._replace(memory="empty")
    expected = {"variant": "billp", "control": "prior", **paired(TESTED[BILLP], TESTED[prior])}
    assert verdict()["memory"] == expected
    assert verdict(BILLP, empty)["memory"]["control"] == "empty"
    assert verdict(BILLP, OUTLOOK)["memory"] is None
    alone = verdict(RowKey("random", None, "full"))
    assert (alone["lead"], alone["memory"], alone["remembers"]) == (None, None, False)


def test_rows_without_a_common_user_are_not_compared() -> None:
    others = [visit | {"user_id": "x"} for visit in visits(3.0)]
    rows = [{**BILLP._asdict(), "total_reward": 6.5}, {**OUTLOOK._asdict(), "total_reward": 3.0}]
    assert study_verdict({BILLP: TESTED[BILLP], OUTLOOK: others}, rows)["lead"] is None
