"""Prior of the leave-risk model, from data: `python -m tests.benchmarks.leave_risk_prior`.

In each world a leave-risk policy learns from many visits of train users, 30% of them at random, with hardly any prior.
The prior's means are the means over the worlds. The worlds are cuts that no table of results uses; but every cut of one
data set has the same items and users, so all cuts of it count as known to the prior, and other data sets as held out.
"""

import argparse
from pathlib import Path

import numpy as np

from sim.data.source import SourceFiles
from sim.data.sources import SOURCES, load_ratings
from sim.policies.leave_risk import WEIGHT_PRIOR, WeightPrior
from sim.policies.leave_risk_policy import learn_leave_risk_policy
from sim.world import World

FIRST_CUT = 100
NAMES = ("constant", "distance", "shared genres", "isolation", "isolation x distance", "dislike", "predicted rating")
# Visits of a world, in cohorts of 20, of which this share tries random items.
COHORT, EXPLORE = 20, 0.3
NO_PRIOR = WeightPrior(np.zeros_like(WEIGHT_PRIOR.means), np.full_like(WEIGHT_PRIOR.strengths, 0.05))


def weights_of(source: str, files: SourceFiles, cut: int, visits: int) -> np.ndarray:
    """Return the weights fitted to the visits of one cut, shape (7,)."""
    world = World.build("prior", load_ratings(source, cut, files), seed=cut)
    users = world.split("train").users
    visitors = [users[number % len(users)] for number in range(visits)]
    learner = learn_leave_risk_policy(world, visitors, cohort=COHORT, explore=EXPLORE, seed=cut, prior=NO_PRIOR)
    outlook = learner.fitted("train").outlook
    assert outlook is not None
    return outlook.weights


def main() -> None:
    """Fit the weights on each cut, and print them with their means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="movielens", choices=[*SOURCES], help="data set (default: movielens)")
    parser.add_argument("--path", type=Path, help="folder of its files, if it needs one")
    parser.add_argument("--cuts", type=int, default=5, help="number of cuts (default: 5)")
    parser.add_argument("--visits", type=int, default=400, help="train visits of each cut (default: 400)")
    chosen = parser.parse_args()
    found = []
    for cut in range(FIRST_CUT, FIRST_CUT + chosen.cuts):
        found.append(weights_of(chosen.source, SourceFiles(path=chosen.path), cut, chosen.visits))
        print(f"cut {cut}: {'  '.join(f'{weight:.2f}' for weight in found[-1])}", flush=True)
    deviations = np.std(found, axis=0, ddof=1) if chosen.cuts > 1 else np.full(len(NAMES), np.nan)
    for name, mean, deviation, used in zip(NAMES, np.mean(found, axis=0), deviations, WEIGHT_PRIOR.means, strict=True):
        print(f"{name:22}{mean:8.2f}  (between cuts {deviation:.2f}; in use {used:.2f})")


if __name__ == "__main__":
    main()
