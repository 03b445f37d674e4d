"""Benchmark of `billp world build` with a million ratings: `python -m tests.benchmarks.worlds`."""

import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.commands import BILLP
from tests.processes import started

RATINGS, USERS, ITEMS = 1_000_000, 20_000, 5_000
GENRES = ("Action", "Comedy", "Crime", "Drama", "Fantasy", "Horror", "Romance", "War")


def write_tables(folder: Path) -> None:
    """Write ratings of popular and rare items, and the items, in GroupLens' format."""
    rng = np.random.default_rng(0)
    fame = rng.gamma(0.7, 1.0, ITEMS)
    users = rng.integers(0, USERS, int(RATINGS * 1.25))
    items = rng.choice(ITEMS, len(users), p=fame / fame.sum())
    pairs = np.unique(users * ITEMS + items)
    pairs = rng.permutation(pairs)[:RATINGS]
    users, items = np.divmod(pairs, ITEMS)
    taste, kind = rng.normal(0, 1, (USERS, 8)), rng.normal(0, 0.3, (ITEMS, 8))
    scores = 3.5 + (taste[users] * kind[items]).sum(axis=1) + rng.normal(0, 0.8, len(pairs))
    values = np.clip(np.round(scores), 1, 5)
    with (folder / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        file.writelines(
            f"{user},{item},{value},{row}\n"
            for row, (user, item, value) in enumerate(zip(users, items, values, strict=True))
        )
    with (folder / "movies.csv").open("w") as file:
        file.write("movieId,title,genres\n")
        for item in range(ITEMS):
            names = rng.choice(GENRES, 1 + item % 3, replace=False)
            file.write(f"{item},Film number {item},{'|'.join(sorted(names))}\n")


def main() -> None:
    """Build the world in its own process, and print its time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder))
        start = time.perf_counter()
        command = [*BILLP, "world", "build", "million", "--from", "movielens", "--path", folder]
        with started(command, env=os.environ | {"BILLP_HOME": str(Path(folder, "home"))}) as process:
            assert process.wait() == 0
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{RATINGS:,} ratings: {seconds:.0f} s (aim: under 120 s), {peak:.0f} MB at most (aim: under 1,000 MB)")


if __name__ == "__main__":
    main()
