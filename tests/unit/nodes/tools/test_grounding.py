import json
import re
import threading
import zlib
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from nodes.tools.grounding import Grounder, is_sentence, looks_like_no_item
from nodes.tools.titles import normalize
from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError
from tests.growth import grows_with_its_input
from tests.shared_data import recorded
from tests.waiting import PATIENCE


class NgramEmbeddings(Embeddings):
    """Embeddings from hashed character trigrams: cheap, deterministic, similar for similar spelling."""

    def __init__(self) -> None:
        self.documents = 0
        self.queries: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.queries.append(text)
        return self._vector(text)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.documents += len(texts)
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        padded = f" {text.lower()} ".encode()
        vector = np.zeros(128)
        for place in range(len(padded) - 2):
            vector[zlib.crc32(padded[place : place + 3]) % 128] += 1
        return [float(value) for value in vector]


TITLES: list[tuple[str, tuple[str, ...]]] = [
    ("Portal 2", ("Action", "Puzzle")),
    ("Stardew Valley", ("Simulation", "RPG")),
    ("Braid", ("Puzzle", "Indie")),
    ("BioShock™", ("Action", "RPG")),
    ("Mount &amp; Blade", ("Action", "RPG")),
    ("Sid Meier's Civilization® V", ("Strategy",)),
    ("Doom", ("Action",)),
    ("Shadowgate (2014)", ("Adventure",)),
    ("Papers, Please", ("Indie",)),
    ("[the Sequence]", ("Puzzle",)),
    ("E", ("Drama",)),
    ("4", ("Drama",)),
    ("...", ("Indie",)),
    ("!!!", ("Indie",)),
    ("Dark Matter", ("Action",)),
    ("Dark Matter", ("Adventure",)),
    ("Matrix, The (1999)", ("Action", "Sci-Fi")),
    ("The Forest", ("Adventure",)),
    ("Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)", ("Comedy",)),
    ("Sabrina (1954)", ("Comedy",)),
    ("Sabrina (1995)", ("Comedy",)),
    ("Home", ("Indie",)),
    ("Crusader Kings", ("Strategy",)),
    ("Crusader Kings II", ("Strategy",)),
    ("Star Ruler 2", ("Strategy",)),
    ("Half-Life 2: Episode One", ("Action",)),
    ("F.E.A.R.", ("Action",)),
    ("Warhammer 40,000: Dawn of War", ("Strategy",)),
    ("Астролорды", ("Strategy",)),
    ("It", ("Horror",)),
    ("GRID 2", ("Racing",)),
    ("Seven (a.k.a. Se7en) (1995)", ("Thriller",)),
    ("Postman, The", ("Drama",)),
    ("Postman, The (Postino, Il)", ("Romance",)),
    ("Hate (Haine, La)", ("Drama",)),
    ("Alien³ (a.k.a. Alien 3)", ("Horror",)),
    ("Killers, The", ("Thriller",)),
    ("To Have and Have Not", ("Drama",)),
    ("Italian Job, The (1969)", ("Action",)),
]
CATALOGUE = Catalogue(Item(id=str(number), title=title, genres=genres) for number, (title, genres) in enumerate(TITLES))

GROUNDER = Grounder(CATALOGUE, NgramEmbeddings())


@pytest.fixture
def grounder() -> Grounder:
    return Grounder(CATALOGUE, NgramEmbeddings())


def ids(*titles: str) -> list[str]:
    return [item.id for item in CATALOGUE if item.title in titles]


@pytest.mark.parametrize("item", CATALOGUE, ids=lambda item: f"{item.id}-{item.title}")
def test_every_title_grounds_to_itself_and_to_another_item_when_it_was_had(grounder: Grounder, item: Item) -> None:
    match = grounder.match(item.title)
    assert (match.item.title, match.kind, match.score) == (item.title, "exact", 1.0)
    assert grounder.ground(item.title, avoid=[item]) != item


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("portal 2", "Portal 2"),
        ("  PORTAL 2. ", "Portal 2"),
        ('"Portal 2",', "Portal 2"),
        ("“Portal 2”", "Portal 2"),
        ("**Portal 2**", "Portal 2"),
        ("Portal II", "Portal 2"),
        ("1. Portal 2", "Portal 2"),
        ("Item: Portal 2", "Portal 2"),
        ("recommend[Portal 2]", "Portal 2"),
        ("Portal 2 (Action, Puzzle)", "Portal 2"),
        ("Portal 2 (2011)", "Portal 2"),
        ("BioShock", "BioShock™"),
        ("BIOSHOCK®", "BioShock™"),
        ("Bioshock(TM)", "BioShock™"),
        ("Mount & Blade", "Mount &amp; Blade"),
        ("Mount and Blade", "Mount &amp; Blade"),
        ("Sid Meier’s Civilization V", "Sid Meier's Civilization® V"),
        ("Sid Meiers Civilization 5", "Sid Meier's Civilization® V"),
        ("Doom (2016)", "Doom"),
        ("Shadowgate", "Shadowgate (2014)"),
        ("Shadowgate 2014", "Shadowgate (2014)"),
        ("Papers Please", "Papers, Please"),
        ("the sequence", "[the Sequence]"),
        ("Sequence", "[the Sequence]"),
        ('"E"', "E"),
        ("e", "E"),
        ("4.", "4"),
        ('"..."', "..."),
        ("!!!,", "!!!"),
        ("“!!!”,", "!!!"),
        ("The Matrix", "Matrix, The (1999)"),
        ("Matrix, The", "Matrix, The (1999)"),
        ("the matrix (1999)", "Matrix, The (1999)"),
        ("Matrix", "Matrix, The (1999)"),
        ("Forest, The", "The Forest"),
        ("Forest", "The Forest"),
        ("Amelie", "Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)"),
        ("Le fabuleux destin d'Amélie Poulain", "Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)"),
        ("Se7en", "Seven (a.k.a. Se7en) (1995)"),
        ("The Postman", "Postman, The"),
        ("The Postman (Postino, Il)", "Postman, The (Postino, Il)"),
        ("Il Postino", "Postman, The (Postino, Il)"),
        ("Hate", "Hate (Haine, La)"),
        ("Hate (1995)", "Hate (Haine, La)"),
        ("La Haine", "Hate (Haine, La)"),
        ("Alien 3", "Alien³ (a.k.a. Alien 3)"),
        ("Sabrina", "Sabrina (1954)"),
        ("sabrina (1995)", "Sabrina (1995)"),
        ("Star Ruler II", "Star Ruler 2"),
        ("FEAR", "F.E.A.R."),
        ("Warhammer 40000: Dawn of War", "Warhammer 40,000: Dawn of War"),
        ("астролорды", "Астролорды"),
        ("it", "It"),
        ("Por\u200btal 2", "Portal 2"),
    ],
)
def test_spelling_variants_are_normalised(grounder: Grounder, text: str, title: str) -> None:
    match = grounder.match(text)
    assert (match.item.title, match.kind) == (title, "normalized")
    assert match.named == match.item


SENTENCES = [
    "I recommend Portal 2 because the user likes puzzles",
    "Because the user liked Braid, I recommend Portal 2 next.",
    "I would recommend Braid to this user.",
    "I recommend To Have and Have Not to them, as they like drama",
    "I recommend The Italian Job (1969) because it is fast",
    'They should try the calm "Home" now',
    "i recommend stardew valley, it is calm",
    "Crusader Kings II would be a good choice",
    "My choice is Papers, Please since it is short",
    "I think it is a good idea to play 4 of them at home with E",
    "The user should feel at Home in this world",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_names_no_title(grounder: Grounder, text: str) -> None:
    assert is_sentence(text)
    assert grounder.named(text) is None
    assert grounder.match(text).kind == "semantic"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Stardw Valley", "Stardew Valley"),
        ("Stardew Vallley", "Stardew Valley"),
        ("Portal2", "Portal 2"),
        ("Crusadr Kings II", "Crusader Kings II"),
        ("I recommend Stardw Valley", "Stardew Valley"),
        ("to have and hvae not", "To Have and Have Not"),
        ("Warhamer 40,000: Dawn of War", "Warhammer 40,000: Dawn of War"),
    ],
)
def test_typos_are_matched(grounder: Grounder, text: str, title: str) -> None:
    match = grounder.match(text)
    assert (match.item.title, match.kind) == (title, "fuzzy")
    assert 0.88 <= match.score < 1


@pytest.mark.parametrize(
    "text",
    ["Portal 3", "Portal", "Portal III", "Crusader Kings III", "Crusader Kings 4", "Half-Life 2: Episode Two",
     "Half-Life 2", "Star Ruler", "The Killer", "Star Ruler 3", "Doom 3",
     "Sabrina (1987)", "Sabrina 1987", "The Italian Job (2003)", "Defense Grid 2", "Shadowgate 2015"],
)  # fmt: skip
def test_another_number_is_another_item_and_never_counts_as_named(grounder: Grounder, text: str) -> None:
    match = grounder.match(text)
    assert (match.kind, match.named) == ("semantic", None)


def test_of_two_items_with_one_title_the_one_not_had_wins_then_the_first(grounder: Grounder) -> None:
    first, second = CATALOGUE.by_title("Dark Matter")
    assert grounder.ground("Dark Matter") == first
    assert grounder.ground("dark matter", avoid=[first.id]) == second
    assert grounder.ground("Dark Matter", avoid=[second]) == first
    assert grounder.match("Dark Matter", avoid=[first]).named == second
    assert grounder.ground("Dark Matter", avoid=[first, second]).title != "Dark Matter"


def test_a_title_that_was_had_is_named_and_replaced_by_a_near_item_without_an_embedding_call() -> None:
    embeddings = NgramEmbeddings()
    match = Grounder(CATALOGUE, embeddings).match("Crusader Kings II", avoid=ids("Crusader Kings II"))
    assert match.named is not None
    assert (match.named.title, match.item.title, match.kind) == ("Crusader Kings II", "Crusader Kings", "semantic")
    assert embeddings.queries == []


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("stardew valley", "Stardew Valley"),
        ("Stardew Vally", "Stardew Valley"),
        ("...", "..."),
        ("I recommend Stardew Valley.", "Stardew Valley"),
        ("the user liked Braid, and then Stardew Valley a lot", None),
        ("Portal 2: the board game", None),
        ("Portal 3", None),
        ("", None),
    ],
)
def test_a_text_names_an_item_only_if_the_whole_text_is_its_title(
    grounder: Grounder, text: str, title: str | None
) -> None:
    match = grounder.named(text)
    assert (match and match.item.title) == title


def test_nearest_mode_takes_exact_titles_or_the_nearest_embedding_and_avoids_what_it_is_told_to() -> None:
    grounder = Grounder(CATALOGUE, NgramEmbeddings(), mode="nearest")
    assert grounder.ground("Portal 2") == CATALOGUE[0]
    once = grounder.match("Portal Two: the game")
    assert once.kind == "semantic"
    for text, item in (("Portal 2", CATALOGUE[0]), ("Portal Two: the game", once.item)):
        assert grounder.ground(text, avoid=[item]) != item


def test_with_the_whole_catalogue_had_the_best_match_is_returned(grounder: Grounder) -> None:
    assert grounder.ground("Portal 2", avoid=list(CATALOGUE)).title == "Portal 2"
    assert grounder.ground("", avoid=list(CATALOGUE)) == CATALOGUE[0]


def test_ids_the_catalogue_does_not_know_are_ignored(grounder: Grounder) -> None:
    assert grounder.ground("Portal 2", avoid=["no such id"]).title == "Portal 2"


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "\ud800", "\x00", "Stop", "Action", "{}", "\u202e", "(1999)", ", The", "a" * 100_000]
)
def test_what_names_nothing_still_gives_an_item(grounder: Grounder, text: str) -> None:
    match = grounder.match(text)
    assert match.item in CATALOGUE
    assert (match.kind, match.named) == ("semantic", None)
    assert grounder.match(text) == match


def test_empty_text_has_score_zero_and_avoids_what_was_had(grounder: Grounder) -> None:
    assert grounder.match("").score == 0.0
    assert grounder.ground("", avoid=["0", "1"]).id == "2"


def test_labels_are_embedded_once_even_by_many_threads_at_once() -> None:
    all_started, started = threading.Event(), threading.Barrier(9)

    class Slow(NgramEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            assert all_started.wait(PATIENCE)
            return super().embed_documents(texts)

    embeddings = Slow()
    grounder = Grounder(CATALOGUE, embeddings)
    grounder.ground("Portal 2")
    assert embeddings.documents == 0

    def ground() -> None:
        started.wait(PATIENCE)
        grounder.ground("something else")

    threads = [threading.Thread(target=ground) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait(PATIENCE)
    all_started.set()
    for thread in threads:
        thread.join()
    assert embeddings.documents == len(CATALOGUE)


def test_vectors_of_the_world_are_used_instead_of_embedding_the_labels() -> None:
    embeddings = NgramEmbeddings()
    vectors = np.asarray(embeddings.embed_documents([item.label for item in CATALOGUE]))
    given_vectors = NgramEmbeddings()
    grounder = Grounder(CATALOGUE, given_vectors, vectors=vectors)
    assert grounder.match("something else") == Grounder(CATALOGUE, embeddings).match("something else")
    assert given_vectors.documents == 0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(BadInputError, match="fresh"):
        Grounder(CATALOGUE, NgramEmbeddings(), mode="newest")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="shape"):
        Grounder(CATALOGUE, NgramEmbeddings(), vectors=np.zeros((3, 4)))


def test_broken_vectors_do_not_break_grounding() -> None:
    class Broken(NgramEmbeddings):
        def _vector(self, text: str) -> list[float]:
            return [float("nan"), float("inf"), 0.0]

    assert Grounder(CATALOGUE, Broken()).ground("something else") == CATALOGUE[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('""', "empty"),
        ("???", "no words"),
        ("Stop", "a stop word"),
        ("none.", "a stop word"),
        ("Finish[]", "a stop word"),
        ("N/A", "a stop word"),
        ("null", "a stop word"),
        ("no more items", "a stop word"),
        ("Action", "a bare genre"),
        ("action games", "a bare genre"),
        ("an Indie movie", "a bare genre"),
        ("RPGs", "a bare genre"),
        ("Action and Puzzle books", "a kind of item, not a title"),
        ("Accounting and Indie items", "a kind of item, not a title"),
        ("some other games", "a kind of item, not a title"),
        ("Portal 2, Braid", "several items"),
        ("Portal 2 and Braid", "several items"),
        ("I recommend Portal 2 and Braid", "several items"),
        ("Portal 2, Braid and Terraria", "several items"),
        ("1. Portal 2\n2. Braid\n3. The Forest", "several items"),
        ("- Celeste\n- Hollow Knight", "several items"),
        ("Portal 2", None),
        ("portal 2", None),
        ("Papers, Please", None),
        ("...", None),
        ("E", None),
        ("Portal 3", None),
        ("Hollow Knight", None),
        ("Portal 2 and Portal 2", None),
        ("I recommend Portal 2, because the user liked Braid so much", None),
        ("The Hunger Games", None),
    ],
)
def test_text_that_names_no_single_item_is_told_in_words(text: str, reason: str | None) -> None:
    assert looks_like_no_item(text, CATALOGUE) == reason


@pytest.mark.parametrize(
    "title",
    ["The Lord of the Rings", "Flower of My Secret, The (La flor de mi secreto)", "stardew valley", "", "Тихий дон"],
)
def test_a_title_is_no_sentence(title: str) -> None:
    assert not is_sentence(title)


def test_stop_words_and_genres_that_are_titles_are_items() -> None:
    catalogue = Catalogue(
        [
            Item("1", "Stop", ("Drama",)),
            Item("2", "Accounting", ("Accounting",)),
            Item("3", "Other", ("Film Noir & Crime",)),
        ]
    )
    assert looks_like_no_item("Stop", catalogue) is None
    assert looks_like_no_item("accounting", catalogue) is None
    assert looks_like_no_item("Accounting books", catalogue) == "a bare genre"
    assert looks_like_no_item("film noir and crime", catalogue) == "a bare genre"
    assert Grounder(catalogue, NgramEmbeddings()).ground("Accounting").id == "2"


def test_normalize_folds_what_never_tells_titles_apart() -> None:
    assert normalize("  Ægir’s  “Été”: S.T.A.L.K.E.R. 40,000™ &amp; Co. ") == "aegirs ete stalker 40000 and co"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(),
        st.text(alphabet=st.characters(codec=None)),
        st.lists(st.sampled_from([title for title, _ in TITLES] + [" and ", ", ", "\n", "the", "(2001)"])).map(
            " ".join
        ),
    ),
    avoid=st.sets(st.sampled_from([item.id for item in CATALOGUE])),
)
def test_any_text_grounds_to_an_item_not_had(text: str, avoid: set[str]) -> None:
    match = GROUNDER.match(text, avoid)
    assert match.item in CATALOGUE
    assert match.item.id not in avoid or len(avoid) == len(CATALOGUE)
    assert -1 <= match.score <= 1
    reason = looks_like_no_item(text, CATALOGUE)
    assert reason is None or match.kind not in ("exact", "normalized")


@pytest.mark.parametrize(
    ("piece", "count"),
    [("I recommend Portal 2 because ", 4_000), ("(", 100_000), ("[1999]", 20_000), ("a.b.", 30_000), ("1. x\n", 20_000),
     ("Portal 2, ", 10_000), (", the", 20_000), ("&amp;", 20_000), (" ", 100_000), ("*", 100_000)],
)  # fmt: skip
def test_work_on_long_texts_grows_with_their_length_alone(grounder: Grounder, piece: str, count: int) -> None:
    assert grows_with_its_input(grounder.ground, "", piece, count)
    assert grows_with_its_input(lambda text: looks_like_no_item(text, CATALOGUE), "", piece, count)


# Recorded Steam runs.


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in recorded(name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def steam() -> Catalogue:
    return Catalogue(Item(**row) for row in _lines("catalogue.jsonl"))


@pytest.fixture(scope="module")
def steam_grounder(steam: Catalogue) -> Grounder:
    return Grounder(steam, NgramEmbeddings())


@pytest.mark.shared_data
def test_every_steam_title_grounds_to_that_title_or_to_another_item_when_it_was_had(
    steam: Catalogue, steam_grounder: Grounder
) -> None:
    for item in steam:
        assert steam_grounder.ground(item.title).title == item.title
        assert steam_grounder.ground(item.title, avoid=[item]) != item
        assert looks_like_no_item(item.title, steam) is None


@pytest.mark.shared_data
def test_steam_titles_survive_case_quotes_signs_and_entities(steam: Catalogue, steam_grounder: Grounder) -> None:
    keys = defaultdict(set)
    for item in steam:
        keys[normalize(item.title)].add(item.title)
    for item in steam:
        plain = re.sub("[™®]", "", item.title).replace("&amp;", "&")
        for variant in (plain, f'"{item.title}",', item.title.upper(), f"{item.title}."):
            assert steam_grounder.ground(variant).title in keys[normalize(item.title)]


@pytest.mark.shared_data
def test_recorded_texts_repeat_within_a_visit_by_the_nearest_way_and_never_by_the_fresh_one(steam: Catalogue) -> None:
    embeddings = NgramEmbeddings()
    fresh, nearest = Grounder(steam, embeddings), Grounder(steam, embeddings, mode="nearest")
    repeats = {"fresh": 0, "nearest": 0}
    cache: dict[str, Item] = {}
    for visit in _lines("recorded_train.jsonl"):
        had: dict[str, list[str]] = {"fresh": [], "nearest": []}
        for step in visit["steps"]:
            text = step["generated"]
            cache.setdefault(text, nearest.ground(text))
            for name, item in (("fresh", fresh.ground(text, had["fresh"])), ("nearest", cache[text])):
                repeats[name] += item.id in had[name][-4:]
                had[name].append(item.id)
    assert repeats["fresh"] == 0
    assert repeats["nearest"] > 40


@pytest.mark.shared_data
def test_recorded_groundings_that_kept_the_title_agree(steam: Catalogue, steam_grounder: Grounder) -> None:
    pairs = json.loads(recorded("grounding_train.json").read_text(encoding="utf-8"))
    same = {text: title for text, title in pairs.items() if normalize(text) == normalize(title)}
    assert len(same) > 100
    for text, title in same.items():
        match = steam_grounder.match(text)
        assert normalize(match.item.title) == normalize(title)
        assert match.kind in ("exact", "normalized")


@pytest.mark.shared_data
def test_no_recorded_title_is_taken_for_a_sentence_or_a_list(steam: Catalogue) -> None:
    pairs = json.loads(recorded("grounding_train.json").read_text(encoding="utf-8"))
    assert not any(map(is_sentence, pairs))
    reasons = {looks_like_no_item(text, steam) for text in pairs}
    assert reasons == {None, "a bare genre", "a kind of item, not a title"}


@pytest.mark.shared_data
def test_recorded_genre_texts_are_recognised(steam: Catalogue) -> None:
    for text in ("Free to Play", "Indie and Racing books", "Accounting and Indie books", "Software Training book"):
        assert looks_like_no_item(text, steam)


def test_looking_a_title_up_by_name_embeds_nothing() -> None:
    class Unasked(NgramEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError("embedded")

        embed_query = embed_documents  # type: ignore[assignment]

    grounder = Grounder(CATALOGUE, Unasked())
    title = CATALOGUE[0].title
    found = grounder.named(title.upper())
    assert found is not None and found.item.title == title
    assert grounder.named("nothing that any catalogue would ever hold") is None
    assert grounder.named(title, avoid=[item.id for item in CATALOGUE.by_title(title)]) is None
