"""Export and import of memories as JSON Lines, and import of the original's memories."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from langchain_core.embeddings import Embeddings
from pydantic import TypeAdapter, ValidationError

from memory.chroma.layout import StoredRecord as Stored
from memory.embeddings import identity
from memory.jsonl import RecordLine, check_vectors, exported, kept
from memory.recall import write_ops
from memory.records import Experience, Record, Value, record
from memory.store import ChromaStore
from nodes.state import Profile
from sim.atomic_files import atomic_file
from sim.catalogue import Catalogue
from sim.errors import BadInputError
from sim.original.memory import Judged, Tried, item_titled, read_memory, titles
from sim.original.runs import fault_at, numbered_lines

RECORDS_AT_ONCE = 200
"""Records read or written between two progress reports."""
Progress = Callable[[int], None]
_LINE = TypeAdapter(RecordLine)


def export_memory(
    store: ChromaStore, records: Sequence[Stored], stream: TextIO, with_vectors: bool, progress: Progress
) -> int:
    """Write records as lines; return how many `import_memory` would refuse, because no visit wrote them."""
    refused = 0
    for start in range(0, len(records), RECORDS_AT_ONCE):
        for line in exported(store, records[start : start + RECORDS_AT_ONCE], with_vectors=with_vectors):
            text = json.dumps(line)
            refused += not _valid(text)
            stream.write(text + "\n")
        progress(min(start + RECORDS_AT_ONCE, len(records)))
    return refused


def _valid(text: str) -> bool:
    try:
        _read(text)
    except ValidationError:
        return False
    return True


@contextmanager
def export_file(path: Path) -> Iterator[TextIO]:
    """Yield a file that is moved into place when complete.

    Raises:
        BadInputError: The path exists and is not a file.
    """
    if path.exists() and not path.is_file():
        raise BadInputError(f"{path} is not a file: name a file, or - for standard output")
    if not path.parent.is_dir():
        raise BadInputError(f"{path.parent} is not a folder: name a file in an existing folder")
    with atomic_file(path) as stream:
        yield stream


def check_lines(path: Path, embeddings: Embeddings, recompute: bool) -> int:
    """Check every line of an exported memory, and return the number of lines.

    Raises:
        BadInputError: A line is invalid; the message names its number.
        OSError: The file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise BadInputError(f"{path} is not a file: name a file that `billp memory export` wrote")
    name, dimension = identity(embeddings)
    places: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            if not recompute:
                check_vectors(line, name, dimension)
        except ValueError as error:
            raise BadInputError(f"{path}: line {number}: {error}") from error
        place = hashlib.sha256(json.dumps([line.namespace, line.key]).encode()).hexdigest()
        if place in places:
            raise BadInputError(
                f"{path}: line {number}: same namespace and key as line {places[place]}: delete one of the two lines"
            )
        places[place] = number
    return len(places)


def import_memory(path: Path, store: ChromaStore, recompute: bool, progress: Progress) -> None:
    """Write the records of a checked file; a record of the same namespace and key is replaced.

    Raises:
        BadInputError: The file has changed since the check.
        OSError: The file cannot be read.
    """
    dimension = identity(store.embeddings)[1]
    lines = _lines(path)
    done = 0
    while page := [line for _, line in islice(lines, RECORDS_AT_ONCE)]:
        store.restore(kept(line, recompute=recompute, dimension=dimension) for line in page)
        done += len(page)
        progress(done)


def _lines(path: Path) -> Iterator[tuple[int, RecordLine]]:
    for number, text in numbered_lines(path):
        with fault_at(path, number):
            line = _read(text)
        yield number, line


def _read(text: str) -> RecordLine:
    """Parse a line.

    Raises:
        ValidationError: The line is invalid.
    """
    line = _LINE.validate_json(text)
    if line.namespace[0] == "profiles":
        Profile.model_validate(line.value)
    return line


def recorded_records(path: Path, user: str, catalogue: Catalogue | None) -> list[Record]:
    """Convert a memory of the original to records of this project.

    The original kept a situation with the recommendation or its value, and nothing else. Fields that it did not keep
    are None or empty here. Each entry counts as a visit of its own, named by its content, so that a second import
    changes nothing.

    Args:
        path: The file.
        user: User of the records; the original did not keep users.
        catalogue: Catalogue that separates titles with commas and adds ids and genres; None if missing.

    Raises:
        BadInputError: The file is not a memory of the original.
        OSError: The file cannot be read.
    """
    return [_recorded(entry, user, catalogue) for entry in read_memory(path)]


def _recorded(entry: Tried | Judged, user: str, catalogue: Catalogue | None) -> Record:
    situation = "\n".join(_label(title, catalogue) for title in titles(entry.history, catalogue))
    if isinstance(entry, Judged):
        visit = _visit(entry.history)
        return record(Value(visit=visit, user_id=user, situation=situation, distance=None, target=entry.value), step=0)
    item = item_titled(entry.title, catalogue)
    experience = Experience(
        visit=_visit(f"{entry.history}\n{entry.title}"),
        user_id=user,
        situation=situation,
        plan="",
        item_id=item.id if item else "",
        title=entry.title,
        genres=list(item.genres) if item else [],
        predicted=None,
        distance=None,
        reward=None,
        advantage=float(entry.sign),
        left=None,
    )
    return record(experience, step=0)


def _visit(content: str) -> str:
    return f"recorded:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _label(title: str, catalogue: Catalogue | None) -> str:
    item = item_titled(title, catalogue)
    # Situations are compared line by line.
    return item.label if item else " ".join(title.split())


def write_recorded(records: Sequence[Record], space: str, store: ChromaStore, progress: Progress) -> None:
    """Write records into a space; existing records of the same key are replaced."""
    for start in range(0, len(records), RECORDS_AT_ONCE):
        store.batch(write_ops(space, records[start : start + RECORDS_AT_ONCE]))
        progress(min(start + RECORDS_AT_ONCE, len(records)))
