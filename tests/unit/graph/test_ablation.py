"""Parts of the agent: each is switched off by its own setting, and an ablation refuses parts that are already off."""

import pytest
from rich.console import Console

from graph.ablation import PARTS, WHOLE, Part, check_whole, part_worth, setting_of, without_part
from graph.cli.progress import StudyView
from graph.context_overrides import context_of
from graph.study.settings import Cell, StudySettings, cells_of
from nodes.context import Context
from sim.errors import BadInputError

ABLATED = StudySettings(world="tiny", variants=("billp", "random"), ablate=True, seeds=2)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_switched_off_by_its_settings_and_not_twice(part: Part) -> None:
    off = without_part(Context(), part)
    assignments = setting_of(part).split()
    assert off == context_of("rules", assignments) != Context()
    names = {one.partition("=")[0] for one in assignments}
    assert {field for field, was in Context() if getattr(off, field) != was} == names
    assert len(names) == 1 or part == "experiences"
    for assignment in assignments:
        with pytest.raises(BadInputError, match=f"--set {assignment}: --ablate switches off .* itself"):
            check_whole(context_of("rules", [assignment]))


def test_experiences_are_all_that_is_told_of_single_rounds() -> None:
    off = without_part(Context(), "experiences")
    assert (off.experiences_k, off.pairs, off.evidence) == (0, False, False)
    assert without_part(without_part(off, "pairs"), "evidence") == off


def test_parts_are_measured_whatever_else_is_set() -> None:
    check_whole(context_of("rules", ["lessons_k=7", "explore=0.1", "outlook=true"]))
    with pytest.raises(BadInputError, match="share_memory=false leaves nothing to recall"):
        check_whole(Context(share_memory=False))


def test_what_a_part_is_worth_is_what_is_missing_without_it() -> None:
    assert part_worth({"difference": -3.0, "ci": [-5.0, 1.0], "users": 12}) == (3.0, [-1.0, 5.0])
    assert part_worth({"difference": 3.0, "ci": None, "users": 2}) == (-3.0, None)
    value, interval = part_worth({"difference": 0.0, "ci": [0.0, 0.0], "users": 12})
    assert [f"{one:+.1f}" for one in (value, *(interval or []))] == ["+0.0"] * 3


def test_the_agent_with_all_parts_is_always_held_against_those_without_one() -> None:
    assert ABLATED.variants == ("billp", "random", WHOLE)
    named = StudySettings(world="tiny", ablate=True, variants=(WHOLE, "billp"))
    assert named.variants == (WHOLE, "billp")
    assert StudySettings(world="tiny", variants=("billp",)).variants == ("billp",)
    assert [cell.name for cell in cells_of(named)] == [WHOLE, *(f"{WHOLE} without {part}" for part in PARTS), "billp"]


def test_each_cell_has_a_name_that_folders_and_memories_on_a_server_can_have() -> None:
    cells = cells_of(ABLATED)
    assert len({str(cell) for cell in cells}) == len(cells) == 2 * (3 + len(PARTS))
    for cell in cells:
        Context.model_validate({"space": f"0123abcd-{cell._replace(seed=999)}-returning-shared"})


def test_the_visits_of_each_cell_count_for_the_time_that_remains() -> None:
    console = Console(width=120, record=True)
    whole, without_lessons = Cell(WHOLE, 0), Cell(WHOLE, 0, "lessons")
    with StudyView(console, 1, 30) as view:
        for cell in (whole, without_lessons):
            # The first three visits were finished before the study was resumed.
            for done in (3, 4, 6):
                view(cell, "train", done, 6)
            view(cell, "dev", 0, 12)
        view(without_lessons, "dev", 12, 12)
        # These visits are not part of the study's total.
        view(Cell("outlook_only", 0), "train", 40, 40)
    lines = [line.split() for line in console.export_text().splitlines()]
    (overall,) = [line for line in lines if line[:2] == ["all", "visits,"]]
    assert overall[3] == "left" and "18/30" in overall
    assert ["0/12"] == [word for line in lines for word in line if line[:2] == [f"{WHOLE}:", "dev"] and "/" in word]
    (own,) = [line for line in lines if line[:3] == [WHOLE, "without", "lessons:"]]
    assert "12/12" in own
