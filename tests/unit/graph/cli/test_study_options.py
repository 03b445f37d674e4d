"""Options of `billp study`: each reaches the field of its name in the settings; its help lists all variants."""

from typing import Any

from typer.main import get_command

from graph.cli import app
from graph.cli.study import COMPARED, study_settings
from graph.cli.variant_catalogue import VARIANT_LINES
from graph.study.baselines import BASELINES
from graph.study.settings import StudySettings
from graph.variants import VARIANTS

# Each field with an option that sets it, and its value; no value is a default.
OPTIONS: dict[str, tuple[list[str], Any]] = {
    "world": (["--world", "other"], "other"),
    "ablate": (["--ablate"], True),
    "variants": (["--variants", "billp_outlook, greedy,"], ("billp_outlook", "greedy")),
    "train": (["--train", "3"], 3),
    "test": (["--test", "4"], 4),
    "seeds": (["--seeds", "5"], 5),
    "cohort": (["--cohort", "6"], 6),
    "max_steps": (["--max-steps", "7"], 7),
    "rl_steps": (["--rl-steps", "8"], 8),
    "learn_at_test": (["--learn-at-test"], True),
    "final": (["--final"], True),
    "memory": (["--memory", "empty,inverted"], ("full", "empty", "inverted")),
    "curve": (["--curve", "9"], 9),
    "curve_users": (["--curve-users", "10"], 10),
    "visits_per_user": (["--visits-per-user", "11"], 11),
    "recall": (["--recall", "both,none"], ("both", "none")),
    "context": (["--set", "explore=0.25"], {"explore": 0.25}),
}


def read(*arguments: str) -> dict[str, Any]:
    """Return the settings that a command line gives."""
    command: Any = get_command(app)
    options = command.commands["study"].make_context("study", ["--out", "run", *arguments]).params
    settings = study_settings(options).model_dump()
    return settings | {"context": {"explore": settings["context"]["explore"]}}


def test_every_option_reaches_its_field() -> None:
    assert OPTIONS.keys() == StudySettings.model_fields.keys()
    default = read()
    settings = read(*(word for words, _ in OPTIONS.values() for word in words))
    assert settings == {name: value for name, (_, value) in OPTIONS.items()}
    assert not {name for name in settings if settings[name] == default[name]}


def test_options_have_the_defaults_of_the_settings() -> None:
    default = StudySettings(world="tiny", variants=tuple(COMPARED.split(",")))
    settings = read("--world", "tiny")
    assert settings == default.model_dump() | {"context": {"explore": default.context.explore}}


def test_the_help_lists_every_variant_and_baseline_with_a_line() -> None:
    names = [name for lines in VARIANT_LINES.values() for name in lines]
    assert sorted(names) == sorted([*VARIANTS, *BASELINES])
    command: Any = get_command(app)
    study = command.commands["study"]
    shown = " ".join(study.get_help(study.make_context("study", [], resilient_parsing=True)).split())
    places = [shown.index(f"Variants: {group}:") for group in VARIANT_LINES]
    assert places == sorted(places)
    for lines in VARIANT_LINES.values():
        for name, line in lines.items():
            assert f" {name} {line}" in shown
