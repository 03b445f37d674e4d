"""Command `billp study`."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr
from typer.core import TyperCommand

from graph.cli.command_line import command_line
from graph.cli.variant_catalogue import catalogue
from graph.console import (
    JsonOption,
    MaxStepsOption,
    ModelOption,
    RecordOption,
    ReplayMissingOption,
    ReplayOption,
    SetOption,
    WorldOption,
    checked,
    err,
    out,
    print_json,
)

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.

if TYPE_CHECKING:
    from graph.study.settings import StudySettings

# Default variants and baselines of a study.
COMPARED = (
    "act_only,react,reflexion,billp,billp_outlook,"
    "random,popular,greedy,diverse_greedy,genre_greedy,pop_greedy,outlook_only,oracle"
)


class StudyCommand(TyperCommand):
    """Command whose help ends with a line for each variant and baseline."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the variants and baselines by group."""
        for group, lines in catalogue():
            with formatter.section(f"Variants: {group}"):
                formatter.write_dl([*lines.items()])


def study_command(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--out", help="Name of the run; its results are in BILLP_HOME/runs/NAME.")],
    variants: Annotated[
        str,
        typer.Option(help="Variants and baselines (listed below), by commas. A variant can be FILE.py:NAME."),
    ] = COMPARED,
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Also measure each part of the agent: run `billp_outlook` without the part."),
    ] = False,
    world: WorldOption = "",
    model: ModelOption = "rules",
    train: Annotated[int, typer.Option(min=0, help="Number of train visits for each variant and seed.")] = 40,
    test: Annotated[int, typer.Option(min=1, help="Number of users visited after training.")] = 40,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, 1,000 at most.")] = 1,
    cohort: Annotated[int, typer.Option(min=1, help="Number of visits after which records are written.")] = 10,
    max_steps: MaxStepsOption = 100,
    rl_steps: Annotated[
        int, typer.Option(min=1, help="Number of training steps of a2c, dqn and maskable_ppo (extra `rl`).")
    ] = 100_000,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Parallel visits of each variant and seed. Does not change the results.")
    ] = 8,
    processes: Annotated[
        int, typer.Option(min=0, help="Number of worker processes; 0 for one per core. Does not change the results.")
    ] = 0,
    memory: Annotated[
        str,
        typer.Option(
            help="Memory controls to test besides the full memory, by commas: prior (memory is empty, learned models "
            "are at their prior), empty, shuffled, inverted."
        ),
    ] = "full",
    curve: Annotated[
        int,
        typer.Option(min=0, help="Train cohorts between two points of the learning curve; 0 for no curve."),
    ] = 0,
    curve_users: Annotated[
        int, typer.Option(min=1, help="Number of dev users visited for each point of the curve.")
    ] = 20,
    visits_per_user: Annotated[
        int,
        typer.Option(
            min=1, help="Visits of each returning user, with learning between them; 1 for no returning users."
        ),
    ] = 1,
    recall: Annotated[
        str,
        typer.Option(
            help="Records that returning users recall besides those of training: own, shared, both, none; by commas."
        ),
    ] = "own,shared,none",
    learn_at_test: Annotated[
        bool,
        typer.Option(
            "--learn-at-test",
            help="Also learn from the visits after training, cohort by cohort, as in the original: agents and "
            "outlook_only.",
        ),
    ] = False,
    assignments: SetOption = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="Visit test users instead of dev users. Tune on dev users first, and use this once."
        ),
    ] = False,
    server: Annotated[
        str, typer.Option(help="URL of a LangGraph server that runs the visits. Does not change the results.")
    ] = "",
    max_cost: Annotated[
        float | None,
        typer.Option(
            min=0, help="Maximum cost of model calls in US dollars; the study stops before it would cost more."
        ),
    ] = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    replay_missing: ReplayMissingOption = "",
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave out failed visits instead of stopping the study.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard an unfinished study of this name and start again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train variants, and compare them on new users.

    To resume a stopped study, run the same command again.
    """
    from graph.cli.progress import StudyView, embed_with_progress
    from graph.study import run_study
    from graph.study.run import agent_visits_left, check_settings, visits_done, visits_planned
    from nodes.llm.recording import use_record

    use_record(record, replay, replay_missing, server)
    settings = study_settings(ctx.params)
    secret = [setting for setting, value in settings.context if isinstance(value, SecretStr)]
    done = 0 if fresh else visits_done(name)
    opened = check_settings(settings)
    embed_with_progress(err, opened)
    processes = processes or os.cpu_count() or 1
    resumed = f"Resuming the study {name}: {done} visits are done." if done else ""
    agents = agent_visits_left(name, settings, opened, fresh=fresh)
    announce(settings, resumed, agents, concurrency=concurrency, processes=processes)
    with StudyView(err, settings.seeds, visits_planned(settings, opened) - done) as progress:
        folder = run_study(
            settings,
            name,
            concurrency=concurrency,
            processes=processes,
            progress=progress,
            server=server,
            max_cost=max_cost,
            skip_failed=skip_failed,
            fresh=fresh,
            command=command_line(sys.argv[1:], secret),
        )
    print_results(folder, as_json)


def announce(settings: "StudySettings", resumed: str, agents: int, *, concurrency: int, processes: int) -> None:
    """Print the warnings about a study, whether it is resumed, and how long it will take.

    Raises:
        BadInputError: The home folder cannot be written, which is told before anything else is said.
    """
    from graph.study.estimate import ANSWER, estimate
    from graph.study.warnings import settings_warnings
    from memory.home import home
    from sim.atomic_files import can_write
    from sim.errors import BadInputError

    if not can_write(home()):
        raise BadInputError(f"the folder {home()} cannot be written: name another one in BILLP_HOME")
    for warning in settings_warnings(settings):
        err.print(f"Warning: {warning}", highlight=False, soft_wrap=True)
    if resumed:
        err.print(resumed, highlight=False)
    took = estimate(settings, agents, concurrency=concurrency, processes=processes)
    assumed = "" if settings.context.scripted else f", if the model answers in {ANSWER:.0f} s"
    if took.most:
        err.print(
            f"This takes {took} on a free machine{assumed}: {agents} visits of agents, longer if users stay.",
            highlight=False,
            soft_wrap=True,
        )


def study_settings(options: Mapping[str, Any]) -> "StudySettings":
    """Return the settings of a study from the options of the same names; `--set` and `--model` give the context.

    Raises:
        BadInputError: A setting is invalid.
        OSError: A file of a prompt cannot be read.
    """
    from graph.context_overrides import DECIDED_BY_STUDY, context_of
    from graph.study.run import check_variants
    from graph.study.settings import StudySettings
    from graph.variant_files import load_variants
    from graph.variants import settings_schema
    from nodes.tools.open_world import default_world

    given = {name: options[name] for name in StudySettings.model_fields if name != "context"}
    given |= {name: comma_separated(given[name]) for name in ("variants", "memory", "recall")}
    variants = given["variants"] = load_variants(given["variants"], server=options["server"])
    check_variants(variants)
    context = context_of(options["model"], options["assignments"] or [], DECIDED_BY_STUDY, settings_schema(variants))
    given |= {"world": given["world"] or default_world(), "context": context}
    return checked(lambda: StudySettings.model_validate(given))


def print_results(folder: Path, as_json: bool) -> None:
    """Print the results of a run: as JSON, or as the verdict and tables with the paths of the files."""
    from graph.report.terminal import (
        ablation_table,
        comparison_table,
        detail_table,
        effort_table,
        learning_table,
        results_table,
        returning_table,
    )
    from graph.report.verdict import verdict_sentences

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(results)
        return
    out.print(" ".join(verdict_sentences(results)), highlight=False, markup=False)
    out.print(results_table(results))
    for make in (comparison_table, detail_table, effort_table, ablation_table, learning_table, returning_table):
        table = make(results)
        if table is not None:
            out.print(table)
    typer.echo(f"results: {os.path.relpath(folder / 'results.json')}")
    typer.echo(f"report: {os.path.relpath(folder / 'report.html')}")


def comma_separated(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of names."""
    return tuple(one.strip() for one in text.split(",") if one.strip())
