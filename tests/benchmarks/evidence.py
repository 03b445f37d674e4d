"""Benchmark of the evidence of pairs, as `make bench-memory` runs it: building, size, look-up, and one more experience.

The experiences are of made-up visits to the MovieLens world, whose items come up as unevenly as on a service. Reading
them from a store and catching up with it is measured by `tests.benchmarks.memory`.
"""

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from memory.changes import Changes, StoredChange
from memory.records import Experience, namespace, record
from nodes.tools.evidence import bands_of
from nodes.tools.remembered_rounds import RememberedRounds
from sim.data.sources import load_ratings
from sim.leave import WINDOW
from sim.policies.leave_risk import fit_leave_risk
from sim.policies.pair_features import PairFeatures
from sim.world import World

COUNTS = (10_000, 100_000)
ROUNDS_A_VISIT = 50
REPEATS = 50


def experiences(world: World, count: int) -> list[StoredChange]:
    """Return experiences of visits as a reader of a store gets them; each visit ends with a leaving."""
    rng = np.random.default_rng(0)
    ids = [item.id for item in world.catalogue]
    drawn = np.minimum(rng.zipf(1.3, count), len(ids)) - 1
    made = []
    for number, item in enumerate(drawn.tolist()):
        visit, index = divmod(number, ROUNDS_A_VISIT)
        recent = drawn[number - min(index, WINDOW) : number].tolist()
        one = Experience(
            visit=f"visit {visit}", user_id=str(visit % 500), situation="", plan="", item_id=ids[item], title="",
            genres=[], recent=[ids[other] for other in recent], predicted=round(float(rng.uniform(2, 5)), 2),
            distance=None, reward=4.0, advantage=0.0, left=index == ROUNDS_A_VISIT - 1,
        )  # fmt: skip
        place = (namespace("experiences", "bench", one.user_id), record(one, index).key)
        made.append(StoredChange(place, one.model_dump(), None))
    return made


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    """Return the mean time of a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def measured(world: World, count: int) -> list[str]:
    """Return the cells of one column of the table."""
    changes = experiences(world, count)
    kept = RememberedRounds(world.catalogue, world.table_of)
    taken_up = seconds(lambda: kept.apply(Changes(changes, [], True, None)))
    features = PairFeatures(world.catalogue, world.logs)
    rounds = kept.rounds((), None, None)
    began = time.perf_counter()
    model = fit_leave_risk(features, rounds)
    fitted = time.perf_counter() - began
    evidence = model.evidence
    assert evidence is not None
    predicted = np.full(len(world.catalogue), 4.0)
    recent = rounds.recent[-1].tolist()
    one_more = seconds(lambda: kept.apply(Changes(changes[-1:], [], False, None)), REPEATS) + seconds(
        lambda: kept.rounds((), None, None), REPEATS
    )
    size = sum(part.data.nbytes + part.indices.nbytes for part in (evidence.stayed, evidence.left))
    return [
        f"{taken_up:.2f} s",
        f"{fitted:.2f} s",
        f"{seconds(lambda: bands_of(model)) * 1e3:.0f} ms",
        f"{size / 2**20:.1f} MB",
        f"{seconds(lambda: (evidence.known(recent), evidence.ended(recent)), REPEATS) * 1e3:.2f} ms",
        f"{seconds(lambda: model.risks(recent, predicted), REPEATS) * 1e3:.2f} ms",
        f"{one_more * 1e3:.2f} ms",
    ]


def main() -> None:
    """Print a table with one column for each number of experiences."""
    world = World.build("bench", load_ratings("movielens", 0))
    table = Table("experiences", *(f"{count:,}" for count in COUNTS), title="Evidence of pairs")
    names = (
        "take up as rounds, once",
        "fit the leave risk, at a visit's start after a change",
        "count pairs by distance, likewise",
        "pairs in memory",
        "known and ended of all items after four",
        "risks of all items after four",
        "take up one more experience, without the fit",
    )
    for row in zip(names, *(measured(world, count) for count in COUNTS), strict=True):
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
