"""Everyday words of wishes: for categories, for eras, and for what titles and categories cannot tell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class Subject(NamedTuple):
    """Subject that catalogues have as a category: its names there, and the words by which people ask for it."""

    names: str
    """Names in catalogues; the first one is shown if the catalogue has none of them."""
    nouns: str = ""
    adjectives: str = ""


# All entries are lists with `|` between the words; a hyphen also stands for a space or for nothing.
SUBJECTS = (
    Subject(
        "comedy|comedies|humor|humour",
        "laugh|laughs|laughter|gags|jokes|spoof|spoofs|parody|parodies|satire|satires|slapstick|farce|farces",
        "funny|funnier|funniest|humorous|hilarious|comedic|comic|comical|witty|satirical|make me laugh",
    ),
    Subject("drama", "melodrama|melodramas|tearjerker|tearjerkers|weepie|weepies", "dramatic"),
    Subject("romance|romantic", "love-story|love-stories|romances", "romantic"),
    Subject(
        "sci-fi|science-fiction|sf",
        "scifi|alien|aliens|robot|robots|cyberpunk|spaceship|spaceships|dystopia|dystopias",
        "futuristic|dystopian|post-apocalyptic",
    ),
    Subject(
        "horror",
        "slasher|slashers|zombie|zombies|vampire|vampires|ghost-story|ghost-stories",
        "scary|scarier|frightening|creepy|spooky|terrifying|horrific",
    ),
    Subject("thriller", "suspense", "thrilling|suspenseful|nail-biting"),
    Subject(
        "mystery", "whodunit|whodunits|whodunnit|whodunnits|detective-story|detective-stories|detective", "mysterious"
    ),
    Subject("crime", "gangster|gangsters|mafia|mob|heist|heists|murder|murders|criminals", "criminal"),
    Subject("action", "shoot-em-up|car-chases|explosions|martial-arts", "action-packed|action-filled"),
    Subject("adventure", "swashbuckler|swashbucklers|quest|quests", "adventurous|swashbuckling"),
    Subject("animation|animated|animations|anime|cartoons", "cartoon|cartoons|anime|animations", "animated"),
    Subject(
        "children|childrens|children's|kids|family|kids & family|children & family",
        "kid|kids|child|childrens|my-daughter|my-son|toddler|toddlers|the-family",
        "family-friendly|kid-friendly|child-friendly|family|kids",
    ),
    Subject("documentary|documentaries|nonfiction", "docu|docus|docs|docudrama|non-fiction|true-stories"),
    Subject(
        "fantasy", "fairy-tale|fairy-tales|fairytale|fairytales|wizard|wizards|dragons|magic", "magical|fantastical"
    ),
    Subject("musical|musicals|music", "songs|singing|show-tunes"),
    Subject("war|war & military|military", "wartime|military|battles"),
    Subject("western", "cowboy|cowboys|gunslinger|gunslingers"),
    Subject("film-noir|noir", "noirs|films-noirs|films-noir"),
    Subject("sports|sport", "football|boxing|baseball|basketball|soccer"),
    Subject("strategy", "tactics", "strategic|tactical"),
    Subject("rpg|role-playing", "rpgs|role-playing-games"),
    Subject("simulation|simulator|simulators", "sims|simulators"),
    Subject("racing", "races|racers"),
    Subject("indie|independent", "indies", "independent"),
    Subject("massively multiplayer|mmo", "mmos|mmorpg|mmorpgs"),
)

# Words for two subjects at once.
MIXED = {
    "rom-com|rom-coms|romcom|romcoms": ("romance", "comedy"),
    "dramedy|dramedies": ("drama", "comedy"),
    "space-opera|space-operas": ("sci-fi", "adventure"),
    "scary-movie": ("horror",),
}


class Quality(NamedTuple):
    """Quality that neither titles nor categories tell, and the categories that have most of it."""

    words: str
    likely: tuple[str, ...] = ()
    """Subjects that are left out if the quality is to be avoided."""


QUALITIES = {
    "violence": Quality(
        "violent|violence|gore|gory|bloody|blood|brutal|brutality|gruesome|killing|killings|guns|shooting|torture",
        ("horror", "war", "crime", "action", "thriller", "film-noir", "western"),
    ),
    "length": Quality(
        "long|longer|short|shorter|length|lengthy|overlong|epic-length|minutes|minute|hours|hour|running-time|runtime"
    ),
    "pace": Quality("slow|slower|slow-paced|slow-burn|fast|faster|fast-paced|pace|paced|boring|gripping|exciting"),
    "mood": Quality(
        "light|lighter|lighthearted|light-hearted|dark|darker|sad|sadder|depressing|gloomy|bleak|happy|uplifting|feel-good|"
        "feelgood|cheerful|melancholic|melancholy|cosy|cozy|heartwarming|moving|relaxing|easy|serious|mood|tense|"
        "happy-ending|happy-endings|weird|quirky|charming|whimsical"
    ),
    "language or country": Quality(
        "french|italian|german|spanish|japanese|korean|chinese|indian|bollywood|british|english|swedish|danish|"
        "scandinavian|russian|iranian|american|hollywood|foreign|european|asian|subtitles|subtitled|dubbed|language"
    ),
    "people in it": Quality("starring|actor|actors|actress|actresses|directed|director|directors|cast"),
    "sex and swearing": Quality("sex|sexy|sexual|nudity|nude|erotic|swearing|profanity|explicit"),
    "age of who watches": Quality("year-old|year-olds|years-old"),
    "awards": Quality("oscar|oscars|oscar-winning|award|awards|award-winning|prize-winning"),
    "colour": Quality("black-and-white|colour|color"),
    "quality of the making": Quality("well-acted|acting|cinematography|visuals|beautifully-shot|soundtrack|dialogue"),
}

OLD = "old|older|classic|classics|vintage|old-fashioned|golden-age|retro"
RECENT = "recent|newer|newest|latest|modern|contemporary|new-releases|new-films|new-movies|new-games|new-books|new-ones"
DECADES = "twenties|thirties|forties|fifties|sixties|seventies|eighties|nineties"

# Words that say nothing of an item; a title of one such word needs quotation marks.
PLAIN_WORDS = frozenset(
    "a about after again all also am an and another any anything are as at avoid bad be because been before best "
    "better big book books but by can can't could day did disliked distance do does don't drop else enough "
    "evening ever every few fewer film films find for four from fun game games gave get give go good great had "
    "has hated have he her here him his how i i'd i'll i'm i've if ignore in instructions interesting into is it "
    "it's item items its just keep kind know last least leave less let's life like liked likes list little live "
    "lot love loved made make many maybe me mind mood more most movie movies much must my need never new nice "
    "night no none nor not nothing now of off ok okay old on once one ones only or other our out over own people "
    "perhaps plan play please prefer really recommend recommendation right see seen she should show skip small so "
    "some someone something sort still story such suggest surprise take tell than thank thanks that the their "
    "them then there these they thing things this those though time tired title titles to today tomorrow tonight "
    "too try two up us user very want was watch watched we week weekend well were what when where which who whole "
    "will wish with without work world would year years yes yet you your".split()
)

# Words of any sentence, and words of praise and blame, that say nothing of an item, though titles may consist of them.
STOP_WORDS = PLAIN_WORDS | frozenset(
    "able absolutely across almost along already although always amazing anybody anyone anyway anywhere apart "
    "appealing aren't around avoided avoids awesome awful ban banned based beautiful became become behind being "
    "below beside besides between beyond bit bored both brilliant came care catalogue categories category certain "
    "choose come comes cool couldn't decide delightful depending despite didn't different disappointed "
    "disappointing dislike dislikes distances doesn't doing done during each either else's enjoy enjoyed enjoys "
    "especially etc even ever everybody everyone everything example excellent except excepted exclude excluded "
    "excludes excluding fan fans fantastic far favorite favorites favourite favourites fed feel feeling feels felt "
    "finally finds fine first full fun further genre genres gets getting given gives giving goes going gone got "
    "guess hadn't hasn't hate hates haven't having hello help herself hey hi himself hope horrible however idea "
    "incredibly inside instead isn't itself keeps kinds lately later leaving left let likely look looking looks "
    "lots lovely loves loving mainly making marvellous matter maximum mean means might minimum mix mixed moreover "
    "mostly myself nearly needs neither next nice nobody normally nowhere often onto option options others "
    "otherwise ours ourselves overrated part particular particularly per perfect pick picks plain plans playing "
    "plenty possible possibly preferably prefers pretty probably purely put puts quite rather reading recommended "
    "recommending regarding release released releases round rounds rubbish said same say says seeing seem seems set "
    "several shall she's shouldn't showing shown similar simply since skipped somebody somehow sometimes somewhere "
    "soon sorts start started stop stuff stunning suggested suggestion suggestions superb sure takes taste tend "
    "tends terrible there's therefore they're think thought through throughout toward towards trash tried trying "
    "turn type types under unless unlike until upon use used usually various vein via wanted wanting wants wasn't "
    "watching way ways we'd we'll we're we've weren't what's whatever whenever where's wherever whether while "
    "whoever why wishes within won't wonderful worse worst wouldn't wow you'd you'll you're you've yours "
    "yourself".split()
)


@dataclass(frozen=True)
class Word:
    """Meaning of a word: categories of the catalogue that it asks for all at once, or a subject that it lacks."""

    categories: tuple[tuple[str, ...], ...]
    """Groups of categories; one of each group is asked for. Empty if the catalogue has no such category."""
    adjective: bool
    missing: str = ""
    """Subject that the catalogue has no category for."""


def spellings(words: str) -> list[str]:
    """Return the words of a list, each with its hyphens as hyphens, as spaces, and left out."""
    found = [one for one in words.split("|") if one]
    return list(dict.fromkeys(form for one in found for form in (one, one.replace("-", " "), one.replace("-", ""))))


def plurals(word: str) -> list[str]:
    """Return the forms that may be the plural of a noun.

    Examples:
        >>> plurals("documentary")
        ['documentarys', 'documentaries']
    """
    forms = [f"{word}s"]
    if word.endswith("y"):
        forms.append(f"{word[:-1]}ies")
    elif word.endswith(("s", "x", "ch", "sh")):
        forms.append(f"{word}es")
    return forms


@lru_cache(maxsize=256)
def category_words(categories: Sequence[str]) -> dict[str, Word]:
    """Return the words by which people ask for the categories of a catalogue, in lower case.

    A category's own name always means this category alone. Its plural, the parts of a name such as "Kids & Family" and
    everyday words follow. Words of subjects that the catalogue lacks are known too, so that it can be said.
    """
    known: dict[str, Word] = {}
    for name in categories:
        known.setdefault(name.casefold(), Word(((name,),), adjective=False))
    for name in categories:
        for form in _name_forms(name):
            known.setdefault(form, Word(((name,),), adjective=False))
    by_subject = {}
    for subject in SUBJECTS:
        names = {form for form in spellings(subject.names)}
        found = tuple(name for name in categories if {name.casefold(), *_parts(name)} & names)
        by_subject[subject.names.partition("|")[0]] = found
        first = subject.names.partition("|")[0]
        for words, adjective in ((subject.nouns, False), (subject.adjectives, True), (_nouns(subject.names), False)):
            meaning = Word((found,) if found else (), adjective, "" if found else first.capitalize())
            for form in spellings(words):
                known.setdefault(form, meaning)
    for words, subjects in MIXED.items():
        groups = tuple(by_subject[one] for one in subjects)
        if all(groups):
            known.update(dict.fromkeys(spellings(words), Word(groups, adjective=False)))
    # "Romantic" may be a category's own name, and is an adjective all the same.
    adjectives = {form for subject in SUBJECTS for form in spellings(subject.adjectives)}
    return {form: Word(word.categories, form in adjectives, word.missing) for form, word in known.items()}


@lru_cache(maxsize=1024)
def words_of(category: str) -> tuple[str, ...]:
    """Return the words that mean a category, alone or with others of its subject, in lower case."""
    return tuple(form for form, word in category_words((category,)).items() if word.categories)


@lru_cache(maxsize=1)
def mixed_words() -> tuple[str, ...]:
    """Return the words that mean categories of several subjects at once, in lower case."""
    return tuple(form for words in MIXED for form in spellings(words))


def _nouns(names: str) -> str:
    return "|".join([names, *(form for name in names.split("|") for form in plurals(name))])


def _parts(name: str) -> list[str]:
    return [part for one in re.split(r"[/|,&]| and ", name.casefold()) if len(part := one.strip()) > 1]


def _name_forms(name: str) -> list[str]:
    whole = [name.casefold(), *_parts(name)]
    forms = [form for one in whole for word in (one, *plurals(one)) for form in spellings(word)]
    return [form for form in dict.fromkeys(forms) if form]


@lru_cache(maxsize=1)
def quality_words() -> dict[str, str]:
    """Return the quality that each word is about, in lower case."""
    return {form: name for name, quality in QUALITIES.items() for form in spellings(quality.words)}


def likely_categories(quality: str, categories: Sequence[str]) -> list[str]:
    """Return the categories that have most of a quality that no item tells."""
    words = category_words(tuple(categories))
    found = (words.get(subject) for subject in QUALITIES[quality].likely)
    return list(dict.fromkeys(name for one in found if one for group in one.categories for name in group))
