"""Benchmark of `billp world build` on generated ratings: `python -m tests.benchmarks.worlds`."""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.commands import BILLP
from tests.processes import started

GENRES = ("Action", "Comedy", "Crime", "Drama", "Fantasy", "Horror", "Romance", "War")


def write_tables(folder: Path, n_ratings: int, n_users: int, n_items: int, *, few: bool = False) -> None:
    """Write ratings of popular and rare items, and the items, in GroupLens' format.

    With `few`, most users have only a few ratings.
    """
    rng = np.random.default_rng(0)
    fame = rng.gamma(0.7, 1.0, n_items)
    drawn = int(n_ratings * 1.25)
    keen = rng.pareto(1.5, n_users) + 1 if few else np.ones(n_users)
    users = rng.choice(n_users, drawn, p=keen / keen.sum())
    users[:n_users] = np.arange(n_users)
    items = rng.choice(n_items, drawn, p=fame / fame.sum())
    pairs = rng.permutation(np.unique(users * n_items + items))[:n_ratings]
    users, items = np.divmod(pairs, n_items)
    taste, kind = rng.normal(0, 1, (n_users, 8)), rng.normal(0, 0.3, (n_items, 8))
    with (folder / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for first in range(0, len(pairs), 100_000):
            part = slice(first, first + 100_000)
            noise = rng.normal(0, 0.8, len(pairs[part]))
            scores = 3.5 + (taste[users[part]] * kind[items[part]]).sum(axis=1) + noise
            values = np.clip(np.round(scores), 1, 5)
            rows = zip(users[part].tolist(), items[part].tolist(), values.tolist(), strict=True)
            file.writelines(f"{user},{item},{value},{first + row}\n" for row, (user, item, value) in enumerate(rows))
    with (folder / "movies.csv").open("w") as file:
        file.write("movieId,title,genres\n")
        for item in range(n_items):
            names = rng.choice(GENRES, 1 + item % 3, replace=False)
            file.write(f"{item},Film number {item},{'|'.join(sorted(names))}\n")


def main() -> None:
    """Build the world in its own process, and print its time and memory."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--ratings", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--few", action="store_true", help="Give most users a few ratings only.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), given.ratings, given.users, given.items, few=given.few)
        start = time.perf_counter()
        command = [*BILLP, "world", "build", "large", "--from", "movielens", "--path", folder]
        with started(command, env=os.environ | {"BILLP_HOME": str(Path(folder, "home"))}) as process:
            assert process.wait() == 0
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{given.ratings:,} ratings of {given.users:,} users and {given.items:,} items: {seconds:.0f} s, of the "
        f"processor {used.ru_utime + used.ru_stime:.0f} s; {used.ru_maxrss / 1024:.0f} MB at most"
    )


if __name__ == "__main__":
    main()
