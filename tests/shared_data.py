"""Recorded data beside the checkout, for tests that use it."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("BILLP_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def recorded(name: str) -> Path:
    """Return a file of recorded Steam runs; skip the test if missing."""
    file = FOLDER / "steam" / name
    if not file.is_file():
        pytest.skip(f"recorded data not found: {name}")
    return file
