"""Search by Chroma's index: rows that the index loses are found all the same."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from memory.chroma.index_search import search_index
from memory.chroma.layout import StoredRecord

ROWS = [f"row {number:02d}" for number in range(30)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class LossyTable:
    """Collection whose index finds every third row alone; every row has the same vector."""

    def query(self, n_results: int, **_: Any) -> dict[str, Any]:
        found = ROWS[::3][:n_results]
        return {"ids": [found], "distances": [[0.0] * len(found)]}

    def count(self) -> int:
        return len(ROWS)

    def get(self, ids: list[str] | None = None, limit: int | None = None, **_: Any) -> dict[str, Any]:
        rows = ROWS[:limit] if ids is None else ids
        return {"ids": rows, "embeddings": [[1.0, 0.0]] * len(rows)}


@pytest.mark.parametrize("where", [None, {"user": "1"}])
def test_rows_that_the_index_loses_are_ranked_with_the_others(where: dict[str, Any] | None) -> None:
    def resolve(rows: Any) -> dict[str, StoredRecord]:
        return {row: StoredRecord(("a", "b"), row, "{}", NOW, NOW, (), 1, "") for row in rows}

    table: Any = LossyTable()
    found = search_index(table, np.array([1.0, 0.0], dtype=np.float32), where, 30, resolve)
    assert sorted(record.key for record, _ in found) == ROWS
    assert {score for _, score in found} == {1.0}
