"""Folder of worlds, memory and runs."""

import os
from pathlib import Path


def home() -> Path:
    """Return the folder of worlds, memory and runs: `BILLP_HOME`, or `.billp` in the working directory."""
    return Path(os.environ.get("BILLP_HOME", "").strip() or ".billp").expanduser()
