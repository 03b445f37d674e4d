"""Benchmark of recall as a predictor of leaving, by content of the records: `python -m tests.benchmarks.recall FOLDER`.

FOLDER contains recorded runs of the original: `recorded_train.jsonl` with the visits, `catalogue.jsonl` with the
genres of titles, `memory_rule_train.jsonl` with the values of its Critic. The value of each step is the mean over
the nearest steps of all other visits, before the user's reaction to the item is known.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from memory.embeddings import shared_embeddings
from memory.search.vectors import Vector, unit
from nodes.user_view import STATE_TITLES
from sim.leave import WINDOW
from sim.metrics.calibration import judge_values
from sim.original.runs import Credited, RecordedVisit, numbered_lines, read_recorded

NEIGHBOURS = (8, 32, 100)
CLOSENESS = 3.0
"""Similarity (cosine) that equals a difference of 1 in the distance to the last four items."""
GAMMA, OFFSET = 0.5, 3.0


class Visit(RecordedVisit):
    """Recorded visit with the user's history."""

    history: tuple[str, ...]


class Moment:
    """Step right after its item was recommended."""

    def __init__(self, visit: Visit, number: int, labels: dict[str, str]) -> None:
        steps = visit.steps[: number + 1]
        self.visit, self.left, self.reward = visit, steps[-1].done, steps[-1].reward or 0.0
        recommended = [labels.get(title, title) for title in (step.grounded or "" for step in steps)]
        self.item = recommended[-1]
        self.before = recommended[:-1][-WINDOW:]
        self.titles = [*(labels.get(title, title) for title in visit.history), *recommended]


Text = Callable[[Moment], str]
TEXTS: dict[str, Text] = {
    f"the last {STATE_TITLES} titles": lambda at: "\n".join(at.titles[-STATE_TITLES:]),
    "the last 5 titles": lambda at: "\n".join(at.titles[-5:]),
    "the item": lambda at: at.item,
}


def moments_of(folder: Path) -> list[Moment]:
    """Return the steps of the recorded visits at which an item was recommended."""
    catalogue = read_recorded([folder / "catalogue.jsonl"]).catalogues[0]
    labels = {item.title: item.label for item in catalogue}
    adapter = TypeAdapter(Visit)
    visits = [adapter.validate_json(line) for _, line in numbered_lines(folder / "recorded_train.jsonl")]
    return [
        Moment(visit, number, labels)
        for visit in visits
        for number, step in enumerate(visit.steps)
        if step.grounded is not None
    ]


def distances_of(moments: Sequence[Moment]) -> NDArray[np.float64]:
    """Return each item's least distance (1 - cosine) to the four items before it; 1 for the first item."""
    texts = sorted({text for at in moments for text in (at.item, *at.before)})
    vectors = dict(zip(texts, unit(shared_embeddings().embed_documents(texts)), strict=True))
    return np.array([1 - max((vectors[at.item] @ vectors[text] for text in at.before), default=0.0) for at in moments])


def auc(moments: Sequence[Moment], values: NDArray[np.float64]) -> str:
    """Return the AUC of low values for leaving, with its interval over users."""
    steps = [
        {"next_value": float(value), "reward": at.reward, "left": at.left, "user_id": at.visit.user_id, "of": at.visit}
        for at, value in zip(moments, values, strict=True)
    ]
    visits = [
        {"user_id": visit.user_id, "steps": list(group)} for visit, group in groupby(steps, key=lambda step: step["of"])
    ]
    return shown(judge_values(visits, gamma=GAMMA, reward_offset=OFFSET))


def shown(found: Any) -> str:
    """Return an AUC with its interval as text."""
    return f"{found['auc']:.3f} ({found['auc_ci'][0]:.2f} to {found['auc_ci'][1]:.2f})"


def recorded_critic(rows: Sequence[Credited], left: Sequence[bool]) -> str:
    """Return the AUC of the values of the recorded Critic."""
    visits = [
        {"user_id": f"{row.run} {row.user_id}", "steps": [{"next_value": row.v_next, "reward": 0.0, "left": gone}]}
        for row, gone in zip(rows, left, strict=True)
    ]
    return shown(judge_values(visits, gamma=GAMMA, reward_offset=OFFSET))


def returns_of(moments: Sequence[Moment]) -> NDArray[np.float64]:
    """Compute the return after each step: discounted sum of rewards minus the offset; 0 if the user leaves."""
    returns = np.zeros(len(moments))
    for row in range(len(moments) - 1, -1, -1):
        at = moments[row]
        following = row + 1 < len(moments) and moments[row + 1].visit is at.visit
        if following and not moments[row + 1].left:
            returns[row] = moments[row + 1].reward - OFFSET + GAMMA * returns[row + 1]
    return returns


def nearest(vectors: Vector, distances: NDArray[np.float64] | None, visits: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the steps nearest to each step, shape (n, n): nearest first, its own visit last, ties in random order."""
    likeness = (vectors @ vectors.T).astype(np.float64)
    if distances is not None:
        likeness -= CLOSENESS * np.abs(distances[:, np.newaxis] - distances)
    # A store orders ties by key, and keys are hashes.
    shuffled = np.random.default_rng(0).permutation(len(visits))
    apart = np.where(visits[:, np.newaxis] == visits, -np.inf, likeness)[:, shuffled]
    return np.asarray(shuffled[np.argsort(-apart, axis=1, kind="stable")])


def main() -> None:
    """Print a table of AUCs by text of the record and by estimate."""
    folder = Path(sys.argv[1])
    moments = moments_of(folder)
    visits = np.cumsum([0] + [a.visit is not b.visit for a, b in zip(moments, moments[1:], strict=False)])
    distances, stayed = distances_of(moments), np.array([float(not at.left) for at in moments])
    estimates = {"return to come": returns_of(moments), "whether the user stays": stayed}
    title = f"AUC for leaving, {len(moments):,} rounds, {int((1 - stayed).sum())} leave"
    table = Table("the record's text", "estimate of", *(f"{k} nearest" for k in NEIGHBOURS), title=title)
    for name, text in TEXTS.items():
        vectors = unit(shared_embeddings().embed_documents([text(at) for at in moments]))
        for suffix, apart in (("", None), (", and its distance", distances)):
            order = nearest(vectors, apart, visits)
            for what, outcome in estimates.items():
                cells = (auc(moments, outcome[order[:, :k]].mean(axis=1)) for k in NEIGHBOURS)
                table.add_row(name + suffix, what, *cells)
    Console(width=140).print(table)
    print("distance alone:", auc(moments, distances))
    lines = [line for _, line in numbered_lines(folder / "memory_rule_train.jsonl")]
    left = [TypeAdapter(dict[str, Any]).validate_json(line)["done"] for line in lines]
    print(
        f"recorded Critic, {len(lines)} rounds:",
        recorded_critic([Credited.model_validate_json(one) for one in lines], left),
    )


if __name__ == "__main__":
    main()
