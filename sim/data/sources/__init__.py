"""Sources of ratings, by name; other packages add theirs through the entry points `billp.sources`."""

import importlib
import pkgutil
from dataclasses import replace

from sim.data.categories import BY_CLUSTER, BY_DECADE, OWN_GENRES
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.entry_points import Registry
from sim.errors import BadInputError, MissingOptionsError

_OPTIONS = ("path", "ratings", "items", "columns", "scale", "drop_zeros", "categories")


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
        MissingOptionsError: Its data can be used with further options, all of which the source takes.
    """
    if source not in SOURCES:
        raise BadInputError(f"there is no source {source!r}; choose one of: {', '.join(SOURCES)}")
    chosen, given = SOURCES[source], given or SourceFiles()
    for option in _OPTIONS:
        if getattr(given, option) and option not in chosen.takes:
            takes = " and ".join(map(_flag, chosen.takes)) or "none of these options"
            raise BadInputError(f"the source {source!r} takes no {_flag(option)}; it takes {takes}")
    if given.categories not in ("", BY_DECADE, BY_CLUSTER, OWN_GENRES) and "columns" not in chosen.takes:
        raise BadInputError(
            f"the source {source!r} has no column {given.categories!r} for --categories; use {BY_DECADE}, {BY_CLUSTER} "
            f"or {OWN_GENRES}"
        )
    try:
        return replace(chosen.read(given, seed), source=source)
    except MissingOptionsError as error:
        raise _of_source(error, chosen) from error


def _of_source(error: MissingOptionsError, source: Source) -> BadInputError:
    """Return the error without the options that its source does not take."""
    proposed = {option.partition("=")[0] for option in error.options}
    for option in _OPTIONS:
        if option not in source.takes and _flag(option) in proposed:
            remedy = f"the source {source.name!r} takes no {_flag(option)}, so correct its files"
            return BadInputError(f"{error.fault}; {remedy}")
    otherwise = error.otherwise if "scale" in source.takes else ()
    return MissingOptionsError(error.fault, error.options, error.condition, otherwise)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def available(source: str) -> bool:
    """Return whether a source can be loaded without options: it needs no files, and its package is installed."""
    return source in SOURCES and SOURCES[source].ready()
