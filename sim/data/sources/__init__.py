"""Sources of ratings, by name; other packages add theirs through the entry points `billp.sources`."""

import importlib
import pkgutil
from dataclasses import replace

from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.entry_points import Registry
from sim.errors import BadInputError


def _own_sources() -> dict[str, Source]:
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    sources: list[Source] = [importlib.import_module(f"{__name__}.{module}").SOURCE for module in modules]
    return {source.name: source for source in sources}


def _checked(loaded: Source) -> Source:
    if not isinstance(loaded, Source):
        raise BadInputError("it is not a Source")
    return loaded


SOURCES = Registry("source", "billp.sources", _own_sources(), _checked)


def load_ratings(source: str, seed: int = 0, given: SourceFiles | None = None) -> Ratings:
    """Load the ratings of a source by name.

    Args:
        source: A name in `SOURCES`.
        seed: Seed of synthetic ratings; it has no effect on files.
        given: Locations of the files, for a source that needs some.

    Raises:
        BadInputError: The source is unknown, does not take an option, or its data cannot be used.
    """
    if source not in SOURCES:
        raise BadInputError(f"there is no source {source!r}; choose one of: {', '.join(SOURCES)}")
    chosen, given = SOURCES[source], given or SourceFiles()
    for option in ("path", "ratings", "items", "columns"):
        if getattr(given, option) and option not in chosen.takes:
            takes = " and ".join(f"--{name}" for name in chosen.takes) or "none of these options"
            raise BadInputError(f"the source {source!r} takes no --{option}; it takes {takes}")
    return replace(chosen.read(given, seed), source=source)


def available(source: str) -> bool:
    """Return whether a source can be loaded without options: it needs no files, and its package is installed."""
    return source in SOURCES and SOURCES[source].ready()
