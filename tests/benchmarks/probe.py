"""Routes that report the holders of a server's memory; `tests/benchmarks/load.py` serves them next to the graphs."""

import gc
import tracemalloc
from collections import Counter
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

OURS = ("graph", "nodes", "memory", "sim")


async def begin(request: Request) -> JSONResponse:
    """Start to trace allocations."""
    gc.collect()
    tracemalloc.start()
    return JSONResponse({})


async def held(request: Request) -> JSONResponse:
    """Return the bytes allocated since then and still held: per file of this project, per package of other code."""
    gc.collect()
    found: Counter[str] = Counter()
    for one in tracemalloc.take_snapshot().statistics("filename"):
        found[_owner(Path(one.traceback[0].filename))] += one.size
    tracemalloc.stop()
    return JSONResponse(dict(found.most_common()))


def _owner(file: Path) -> str:
    parts = file.parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    ours = next((place for place, part in enumerate(parts) if part in OURS), None)
    return "/".join(parts[ours:]) if ours is not None and file.suffix == ".py" else "Python"


app = Starlette(routes=[Route("/held", begin, methods=["POST"]), Route("/held", held)])
