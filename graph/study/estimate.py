"""Estimate of the time that a study takes, before it starts."""

from typing import NamedTuple

from graph.study.settings import StudySettings, cells_of
from sim.rl.training import RECIPES

# Processor seconds of a round of an agent with the model `rules` (docs/speed.md) and of a step of reinforcement
# learning (docs/environment.md), on a processor of 2026.
ROUND, RL_STEP = 0.018, 0.0009
# Assumed seconds of a model's answer, and answers that a round takes: of Planner, Actor and Critic.
ANSWER, ANSWERS_A_ROUND = 2.0, 3
# Rounds of a short visit. How long visits become is what the study is to find out.
SHORT = 10


class Estimate(NamedTuple):
    """Least and most seconds: with visits of `SHORT` rounds, and with visits to the limit."""

    least: float
    most: float

    def __str__(self) -> str:
        least, most = _duration(self.least), _duration(self.most)
        return least if least == most else f"{least} to {most}"


def estimate(settings: StudySettings, agent_visits: int, *, concurrency: int, processes: int) -> Estimate:
    """Return the time that a study takes, without the tuning of rules (up to half a minute each).

    Args:
        settings: Settings of the study.
        agent_visits: Unfinished visits of agents.
        concurrency: Visits of a cell at once.
        processes: Cells at once.
    """
    at_once = min(processes, len(cells_of(settings)))
    training = sum(variant in RECIPES for variant in settings.variants) * settings.seeds * settings.rl_steps * RL_STEP
    # Visits of a cell share a processor, but wait for an endpoint at the same time.
    a_round = (
        ROUND if settings.context.scripted else max(ROUND, ANSWERS_A_ROUND * ANSWER / min(concurrency, settings.cohort))
    )
    return Estimate(
        *(
            (training + agent_visits * rounds * a_round) / at_once
            for rounds in (min(SHORT, settings.max_steps), settings.max_steps)
        )
    )


def _duration(seconds: float) -> str:
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            return f"{round(seconds / size)} {unit}s"
    return "a minute" if seconds >= 45 else "less than a minute"
