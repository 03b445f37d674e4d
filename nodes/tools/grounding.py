"""Grounding: maps the text of a model to one item of the catalogue.

The text is matched as a title first: as written, normalised, then misspelt. If it is no title, an embedding decides.
Items to avoid are skipped. The reason: three quarters of the titles that GPT-3.5 generated freely
were not in the catalogue, and four visits in ten ended because two different titles were grounded to the same item.
"""

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from nodes.tools.titles import ARTICLES, LONGEST_TEXT, Found, Titles, WordKind, normalize, symbols, titles_of, words
from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError

MatchKind = WordKind | Literal["semantic"]
Mode = Literal["fresh", "nearest"]

_LONGEST_EMBEDDED = 512
# Nouns for the items of a catalogue: alone they never make a text a title.
_NOUNS = frozenset(
    f"{noun}{ending}"
    for noun in "item game movie film book title product show album song series genre category".split()
    for ending in ("", "s")
) | {"categories"}
_SMALL = (
    ARTICLES
    | _NOUNS
    | frozenset("and or then also plus nor to with for of in on by from at some any more another other new".split())
    | frozenset("few many all various different similar please i would recommend".split())
)
_LIST_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]*\S", re.MULTILINE)
_SEPARATOR = re.compile(r"[,;|/•\n]|\s(?:and|or|&)\s", re.IGNORECASE)
_STOP_TEXTS = frozenset(
    "stop none finish finished end done quit exit nothing null nil na n_a nan undefined unknown skip pass "
    "no_item no_items no_recommendation no_more_items no_more_recommendations stop_recommending end_of_visit "
    "no_title no_suggestion not_applicable finish_recommendation the_end".split()
)


@dataclass(frozen=True)
class Match:
    """Item to which a text was grounded, and how.

    Attributes:
        item: The item to recommend.
        kind: Kind of match: "semantic" by the embedding of the text, all others by its words.
        score: 1 for the exact title; for "fuzzy" the share of equal letters, for "semantic" the cosine similarity (0
            for a text without any sign).
        named: The item whose title the text is, even if it was skipped because the visit already had it; None if the
            text is no title.
    """

    item: Item
    kind: MatchKind
    score: float
    named: Item | None = None


class Grounder:
    """Grounder that maps any text to one item of a catalogue.

    It tries the exact title, the normalised title, a misspelt title, then the nearest embedding.
    The same text with the same `avoid` always gives the same item. Threads may share a grounder.

    Args:
        catalogue: Items that can be recommended.
        embeddings: Model that embeds item labels (once, on first use) and texts that are no title.
        mode: "fresh" takes titles in any spelling. "nearest" reproduces the original: the exact title, else the nearest
            embedding.
        vectors: Label vectors, shape (n_items, dimension), if the world has them already.

    Raises:
        BadInputError: The mode is unknown, or the vectors have another shape.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        embeddings: Embeddings,
        *,
        mode: Mode = "fresh",
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        if mode not in ("fresh", "nearest"):
            raise BadInputError(f'the grounding {mode!r} is unknown; use "fresh" or "nearest"')
        if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(catalogue)):
            raise BadInputError(f"label vectors need the shape ({len(catalogue)}, dimension), not {vectors.shape}")
        self._catalogue = catalogue
        self._embeddings = embeddings
        self._mode = mode
        self._positions = {item.id: position for position, item in enumerate(catalogue)}
        self._titles = titles_of(catalogue)
        self._lock = threading.Lock()
        self._vectors = None if vectors is None else _unit_rows(vectors)

    def ground(self, text: str, avoid: Iterable[str | Item] = ()) -> Item:
        """Return the item that a text names, or the nearest item that is not in `avoid`.

        Args:
            text: Any text of a model; empty text and broken Unicode are allowed.
            avoid: Items, or their ids, not to recommend; ids unknown to the catalogue are ignored.

        Returns:
            An item outside `avoid`; the best match if `avoid` holds the whole catalogue.
        """
        return self.match(text, avoid).item

    def match(self, text: str, avoid: Iterable[str | Item] = ()) -> Match:
        """Return the grounded item with the kind and the score of the match; `ground` describes the arguments.

        It raises only the errors of the embedding model, such as an endpoint that does not answer.
        """
        found = self._found(text)
        blocked = self._blocked(avoid)
        match = self._first(found, blocked)
        if match is not None:
            return match
        # If the text is a title, take the item nearest to that title's item, without embedding the text.
        named = found.positions[0] if found else None
        position, score = self._nearest(text, named, blocked)
        return Match(self._catalogue[position], "semantic", score, None if named is None else self._catalogue[named])

    def named(self, text: str, avoid: Iterable[str | Item] = ()) -> Match | None:
        """Return the item whose title the text is; None if only an embedding could decide. Embeds nothing."""
        return self._first(self._found(text), self._blocked(avoid))

    def _first(self, found: Found | None, blocked: frozenset[int]) -> Match | None:
        if found is None:
            return None
        free = next((position for position in found.positions if position not in blocked), None)
        return None if free is None else Match(self._catalogue[free], found.kind, found.score, self._catalogue[free])

    def _blocked(self, avoid: Iterable[str | Item]) -> frozenset[int]:
        ids = {entry if isinstance(entry, str) else entry.id for entry in avoid}
        blocked = frozenset(self._positions[item_id] for item_id in ids if item_id in self._positions)
        return blocked if len(blocked) < len(self._catalogue) else frozenset()

    def _found(self, text: str) -> Found | None:
        """Return the title that a text is; several positions if items share it."""
        whole = self._titles.whole(text)
        if self._mode == "nearest":
            return whole if whole and whole.kind == "exact" else None
        return whole or self._titles.similar(text)

    def _nearest(self, text: str, named: int | None, blocked: frozenset[int]) -> tuple[int, float]:
        visible = " ".join(text[:_LONGEST_EMBEDDED].encode("utf-8", "replace").decode("utf-8").split())
        if named is None and not visible:
            return next(position for position in range(len(self._catalogue)) if position not in blocked), 0.0
        rows = self._label_vectors
        if named is None:
            query = _unit_rows(np.asarray([self._embeddings.embed_query(visible)]))[0]
        else:
            query = rows[named]
        # einsum, because BLAS threads wait for each other if other processes are busy (6,011 x 384 beside two busy
        # processes on two cores: 17 ms, einsum 2 ms). Rounded, so that two machines never differ by the last bits.
        scores = np.round(np.einsum("ij,j->i", rows, query), 5)
        scores[list(blocked)] = -np.inf
        best = int(np.argmax(scores))
        return best, float(np.clip(scores[best], -1.0, 1.0))

    @property
    def _label_vectors(self) -> NDArray[np.float32]:
        with self._lock:
            if self._vectors is None:
                labels = [item.label.encode("utf-8", "replace").decode("utf-8") for item in self._catalogue]
                self._vectors = _unit_rows(np.asarray(self._embeddings.embed_documents(labels)))
            return self._vectors


def _unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    rows = np.nan_to_num(np.asarray(vectors, dtype=np.float32), posinf=0.0, neginf=0.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def is_sentence(text: str) -> bool:
    """Return whether a text is a sentence: three words in a row start with a small letter.

    Check first that it is no title: five in a thousand Steam titles have such a row. None of the 402 recorded texts
    that GPT-3.5 wrote as titles has one.
    """
    row = 0
    for word in words(text):
        row = row + 1 if word[0].islower() else 0
        if row == 3:
            return True
    return False


def looks_like_no_item(text: str, catalogue: Catalogue) -> str | None:
    """Return the reason why a text names no single item, in words for the second question; None if it may name one.

    A title of the catalogue is never refused, even if it is "Stop" or the name of a category.

    Returns:
        "empty", "no words", "a stop word", "a bare genre", "a kind of item, not a title", "several items", or None.
    """
    titles = titles_of(catalogue)
    if titles.whole(text):
        return None
    key = normalize(text)
    if not key:
        return "no words" if symbols(text) else "empty"
    if key.replace(" ", "_") in _STOP_TEXTS:
        return "a stop word"
    if _is_list(text, titles):
        return "several items"
    return _kind_of_item(key.split(), titles.genres)


def _is_list(text: str, titles: Titles) -> bool:
    """Return whether a text has several list marks, or joins several titles by commas, "and" and the like."""
    text = text[:LONGEST_TEXT]
    if len(_LIST_LINE.findall(text)) > 1:
        return True
    parts = dict.fromkeys(_SEPARATOR.split(text))
    return len({found.positions for part in parts if (found := titles.whole(part))}) > 1


def _kind_of_item(keys: list[str], genres: frozenset[str]) -> str | None:
    unknown: list[str] = []
    count = place = 0
    longest = max((len(genre.split()) for genre in genres), default=0)
    while place < len(keys):
        size = next((n for n in range(longest, 0, -1) if " ".join(keys[place : place + n]) in genres), 0)
        if size:
            count += 1
        elif keys[place] not in _SMALL:
            unknown.append(keys[place])
        place += max(1, size)
    if not unknown:
        return "a bare genre" if count == 1 else "a kind of item, not a title"
    plural = keys[-1] in _NOUNS and keys[-1] not in ("show", "series")
    # "Accounting and Indie books": an unknown category beside a known one.
    joined = count > 0 and "and" in keys and len(unknown) <= 2
    return "a kind of item, not a title" if plural and (joined or keys[-1] in ("item", "items")) else None
