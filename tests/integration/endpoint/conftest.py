"""Clock of the tests of limits a minute."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits for a turn, in seconds, on a clock that stands still: each is the time of a call's turn."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("nodes.llm.endpoint.rate_limit.time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr("nodes.llm.endpoint.rate_limit.asyncio", SimpleNamespace(sleep=wait))
    return waits
