"""Understood wishes: what a person's words mean in a catalogue, and what the catalogue cannot judge."""

from pydantic import BaseModel, ConfigDict, Field

from memory.records import Categories, Name


class Era(BaseModel):
    """Years from `since` to `until`; none for no bound."""

    since: int | None = None
    until: int | None = None


class Understood(BaseModel):
    """What was understood of a person's words, and what the catalogue cannot judge.

    A group of categories is met by any one of them, a list of groups by one of each group.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    want: list[list[Categories]] = Field([], max_length=100)
    """Categories to recommend; any one entry will do."""
    before: list[list[Categories]] = Field([], max_length=100)
    """Categories that earlier lines asked for; they count as long as enough items have them too."""
    avoid: list[list[Categories]] = Field([], max_length=100)
    """Categories to leave out."""
    titles: list[Name] = Field([], max_length=100)
    """Ids of items that are asked for themselves."""
    like: list[Name] = Field([], max_length=100)
    """Ids of items near which to recommend."""
    unlike: list[Name] = Field([], max_length=100)
    """Ids of items to leave out."""
    eras: list[Era] = Field([], max_length=100)
    """Years to recommend; any one entry will do."""
    bounds: Era = Era()
    """Bounds of the year of every item."""
    not_eras: list[Era] = Field([], max_length=100)
    """Years to leave out."""
    least: float | None = None
    """Least distance to the last four items."""
    most: float | None = None
    """Greatest distance to the last four items."""
    words: list[Name] = Field([], max_length=100)
    """Other words, by whose likeness to the items' text they are searched."""
    not_words: list[Name] = Field([], max_length=100)
    """Other words; items whose title or description has all of an entry are left out."""
    unjudged: list[Name] = Field([], max_length=100)
    """Qualities and words that the catalogue says nothing about."""
    missing: list[Name] = Field([], max_length=100)
    """Subjects for which the catalogue has no category."""
    unknown: list[Name] = Field([], max_length=100)
    """Names that are no title of the catalogue."""
