"""Study: each variant learns on train visits, then visits dev (or test) users with its memory.

Learning is cohort-synchronous: the visits of a cohort recall only the records of earlier cohorts, and their own records
are written, in order of key, when the cohort ends. So a study gives the same bytes at any concurrency, here or on a
server, resumed or not.
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from graph.ablation import check_whole
from graph.checkpoints import CHECKPOINTS, costs_under_way
from graph.report.run_record import Environment, RunRecord, provenance_of
from graph.report.setting_differences import setting_differences, settings_by_name
from graph.server.client import check_server
from graph.study.baselines import BASELINES, POLICY_FOLDER, check_baseline, effort_of, has_prior
from graph.study.memory_controls import PRIOR
from graph.study.provenance import environment_of, now, world_record
from graph.study.results import study_rows, tested_visits
from graph.study.schedule import phases
from graph.study.settings import CURVE, FAILED, RETURNING, Cell, StudySettings, cells_of
from graph.study.verdict import study_verdict
from graph.study.visit_log import VisitLog
from graph.study.visits import StudyProgress
from graph.study.warnings import outlook_warnings, settings_warnings
from graph.study.workers import CELLS, VISITS, Work, run_cells
from graph.variant_files import loaded_files
from graph.variants import VARIANTS, own_settings
from memory.home import home
from nodes.context import Context
from nodes.llm.endpoint.prices import price_of
from nodes.llm.models import at_endpoint, chat_model
from nodes.tools.open_world import checked_name, load_world, world_folder
from sim.atomic_files import RUN_LOCK, resumable_folder, unfinished_folder, write_atomic
from sim.errors import BadInputError
from sim.world import World
from sim.world.data import SplitName
from sim.world.storage import world_checksum

RULES_NOTE = "The model `rules` plays the roles by written rules. It is no LLM, and no evidence that one learns."
RESULTS = "results.json"
RUN = "run.json"
REPORT = "report.html"
STUDY_FILE = "study.json"
# Files of visits outside the comparison: learning curve between train cohorts, returning users, failed visits.
CURVES, RETURNS, FAILURES = "curves.jsonl", "returning.jsonl", "failed.jsonl"


class StudyStart(BaseModel):
    """Settings a study was started with; a resume must match them."""

    settings: StudySettings
    own: dict[str, dict[str, Any]]
    """Settings of variants with defaults of their own, saved because set values and defaults look the same later."""
    files: dict[str, str] = {}
    """Checksums of the files that variants were loaded from."""
    version: str
    """Version of this project."""
    world: str
    """Checksum of the world."""
    token: str
    """Token that separates the study's memories and threads on a server from those of other studies."""
    started: AwareDatetime
    """Time of the first start (UTC)."""
    resumed: int = 0
    """Number of resumes."""
    environments: list[Environment]
    """Different environments of the start and the resumes."""


# Facts about a start that a resume need not match.
_FREE = {"token", "started", "resumed", "environments"}


def run_study(
    settings: StudySettings,
    name: str,
    *,
    concurrency: int,
    processes: int,
    progress: StudyProgress,
    server: str = "",
    max_cost: float | None = None,
    skip_failed: bool = False,
    fresh: bool = False,
    command: str | None = None,
) -> Path:
    """Run a study and write `runs/NAME/{results.json,run.json,visits.jsonl,report.html}` with the memory of each cell.

    If the study has them, visits of the learning curve are in `curves.jsonl`, visits of returning users in
    `returning.jsonl`, failed visits in `failed.jsonl`, and trained policies in `policies/`.

    An unfinished study of that name with the same settings is resumed.

    Args:
        settings: Settings of the study.
        name: Name of the run; an earlier run of that name is replaced when this one ends.
        concurrency: Visits of a cell at once.
        processes: Cells at once.
        progress: Function called with the progress of the study.
        server: URL of a LangGraph server that runs the visits and keeps the memory; empty for this process.
        max_cost: Maximum cost of model calls in dollars, including the cost of the unfinished study.
        skip_failed: Whether to leave out failed visits that would otherwise stop the study.
        fresh: Whether to delete an unfinished study of that name instead of resuming it.
        command: Command line for the provenance in `run.json`, without credentials; None for a call by a program.

    Returns:
        The folder of the run.

    Raises:
        BadInputError: The settings are invalid, or an unfinished study of that name has other settings.
        BillpError: The server does not answer.
        BudgetSpentError: Another call could exceed the maximum cost; finished visits are kept.
        VisitFailedError: Most visits fail; finished visits are kept.
    """
    world = check_settings(settings)
    priced = check_prices(settings.context, max_cost, server)
    target = _target(name)
    started = _start_of(settings, command)
    if not fresh and _same(_saved_start(target), started):
        # The run is complete except for the deletion of its resume files.
        return _tidied(target)
    if server:
        asyncio.run(check_server(server))
    with resumable_folder(target) as folder:
        start = _save_start(folder, started, name, fresh)
        # Open the logs before the workers start, so that damaged lines are reported once.
        logs = {cell: VisitLog(cell / VISITS) for cell in sorted((folder / CELLS).glob("*"))}
        spent = 0.0 if max_cost is None else asyncio.run(_spent(logs))
        work = Work(
            settings, start.world, folder.absolute(), concurrency, server, start.token, max_cost, spent, skip_failed
        )
        _write(folder, settings, start, world, _played(work, processes, progress), priced)
    return _tidied(target)


def _target(name: str) -> Path:
    """Return the folder of a new run.

    Raises:
        BadInputError: The folder holds something else.
    """
    target = run_folder(name)
    if target.exists() and not (target / RESULTS).is_file():
        raise BadInputError(f"{target} exists but is not a run: choose another name")
    return target


def _played(work: Work, processes: int, progress: StudyProgress) -> list[dict[str, Any]]:
    """Run all cells of a study, and return the lines of their visits in the order of the cells."""
    cells = cells_of(work.settings)
    by_cell = dict(run_cells(cells, work, min(processes, len(cells)), progress))
    return [line for cell in cells for line in by_cell[cell]]


def _write(
    folder: Path, settings: StudySettings, start: StudyStart, world: World, lines: list[dict[str, Any]], priced: bool
) -> None:
    """Write the results, their provenance, the report and all visits, with failed visits in a file of their own."""
    record = RunRecord(
        world=world_record(world, start.world),
        settings=settings.model_dump(mode="json"),
        started=start.started,
        ended=now(),
        resumed=start.resumed,
        environments=start.environments,
    )
    efforts = {variant: effort_of(variant, settings, folder) for variant in settings.variants}
    tested = tested_visits(settings, lines)
    rows = study_rows(settings, lines, tested, world, efforts, priced)
    results = {
        "world": settings.world,
        "world_checksum": start.world,
        "model": settings.context.model,
        "note": RULES_NOTE if settings.context.model == "rules" else "",
        "settings": record.settings,
        "verdict": study_verdict(tested, rows),
        "warnings": [*settings_warnings(settings), *outlook_warnings(settings, tested, rows)],
        "rows": rows,
        # Last, as the only part that differs between runs of the same study.
        "provenance": provenance_of(record),
    }
    by_file: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_file.setdefault(_file_of(line), []).append(line)
    for file, own in by_file.items():
        _write_json_lines(folder / file, own)
    write_atomic(folder / RUN, record.model_dump_json(indent=2) + "\n")
    write_atomic(folder / REPORT, _page(results, by_file.get(VISITS, [])))
    # Written last: this file marks a finished run.
    write_atomic(folder / RESULTS, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def _page(results: dict[str, Any], visits: list[dict[str, Any]]) -> str:
    # Imported here because it loads Matplotlib, which a running study and its workers do not need.
    from graph.report.html import report_page

    return report_page(results, visits)


def _file_of(line: dict[str, Any]) -> str:
    """Return the name of the file for a visit's line."""
    if FAILED in line:
        return FAILURES
    if CURVE in line:
        return CURVES
    return RETURNS if RETURNING in line else VISITS


def _tidied(target: Path) -> Path:
    """Delete the resume files of a finished run."""
    shutil.rmtree(target / CELLS, ignore_errors=True)
    # The lock is still there if the process ended between moving the folder and releasing the lock.
    (target / RUN_LOCK).unlink(missing_ok=True)
    (target / STUDY_FILE).unlink()
    return target


def _start_of(settings: StudySettings, command: str | None) -> StudyStart:
    own = {variant: own_settings(variant, settings.context) for variant in settings.variants}
    files = {variant: file.checksum for variant, file in loaded_files(settings.variants).items()}
    return StudyStart(
        settings=settings,
        own=own,
        files=files,
        version=version("billp"),
        world=world_checksum(world_folder(settings.world)),
        token=secrets.token_hex(4),
        started=now(),
        environments=[environment_of(command)],
    )


def _same(former: StudyStart | None, started: StudyStart) -> bool:
    """Compare by stored values: the class of the settings is created again at each reading."""
    if former is None:
        return False
    stored = StudyStart.model_validate_json(started.model_dump_json())
    return former.model_dump(mode="json", exclude=_FREE) == stored.model_dump(mode="json", exclude=_FREE)


def _save_start(folder: Path, started: StudyStart, name: str, fresh: bool) -> StudyStart:
    """Save and return the start of a new study, or of the unfinished one, whose settings must be the same."""
    if fresh:
        _clear(folder)
    former = _saved_start(folder)
    if former is None:
        _clear(folder)
        write_atomic(folder / STUDY_FILE, started.model_dump_json())
        return started
    if not _same(former, started):
        raise BadInputError(
            f"the unfinished run {name!r} was started with other settings ({'; '.join(_differing(former, started))}): "
            "add `--fresh` to discard it and start again, or choose another name"
        )
    new = [one for one in started.environments if one not in former.environments]
    resumed = former.model_copy(update={"resumed": former.resumed + 1, "environments": [*former.environments, *new]})
    write_atomic(folder / STUDY_FILE, resumed.model_dump_json())
    return resumed


def _differing(former: StudyStart, started: StudyStart) -> list[str]:
    """Describe the differences between two starts."""
    # A variant that only one study has already shows in the difference of `variants`.
    described = setting_differences(_settings_by_name(former), _settings_by_name(started), ", now ")
    return described + ["the world was rebuilt"] * (former.world != started.world)


def _settings_by_name(started: StudyStart) -> dict[str, Any]:
    own = {f"settings of {variant}": of for variant, of in started.own.items()}
    files = {f"file of {variant}": checksum for variant, checksum in started.files.items()}
    named = settings_by_name(started.settings.model_dump(mode="json"))
    return named | own | files | {"version": started.version}


def _saved_start(folder: Path) -> StudyStart | None:
    """Return the start settings of an unfinished study; None if there is no unfinished study."""
    try:
        return StudyStart.model_validate_json((folder / STUDY_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise BadInputError(f"{folder / STUDY_FILE} is of another version: add `--fresh` to start again") from error


def _clear(folder: Path) -> None:
    (folder / STUDY_FILE).unlink(missing_ok=True)
    for part in (VISITS, CURVES, RETURNS, FAILURES, RUN, REPORT):
        (folder / part).unlink(missing_ok=True)
    for part in (CELLS, POLICY_FOLDER, "memory"):
        shutil.rmtree(folder / part, ignore_errors=True)


def visits_planned(settings: StudySettings, world: World) -> int:
    """Return the number of visits of a study, without the visits that tune or train baselines."""
    return sum(_visits_of(world, settings, cell) for cell in cells_of(settings))


def agent_visits_left(name: str, settings: StudySettings, world: World, *, fresh: bool) -> int:
    """Return the number of visits of agents that a study has still to make; all of them if it starts afresh."""
    cells = [cell for cell in cells_of(settings) if cell.variant not in BASELINES]
    folder = unfinished_folder(run_folder(name)) / CELLS
    done = 0 if fresh else sum(_lines_in(folder / str(cell) / VISITS) for cell in cells)
    return sum(_visits_of(world, settings, cell) for cell in cells) - done


def _visits_of(world: World, settings: StudySettings, cell: Cell) -> int:
    if cell.variant in BASELINES:
        return settings.test * (1 + (PRIOR in settings.memory and has_prior(cell.variant)))
    planned = phases(world, settings, cell.seed, VARIANTS[cell.variant].remembers)
    return sum(len(batch.users) for phase in planned for batch in phase.batches)


def visits_done(name: str) -> int:
    """Return the number of finished visits of an unfinished study of that name."""
    cells = unfinished_folder(run_folder(name)) / CELLS
    return sum(map(_lines_in, cells.glob(f"*/{VISITS}")))


def _lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def run_folder(name: str) -> Path:
    """Return the folder of the results of a run.

    Raises:
        BadInputError: The name is invalid.
    """
    return home() / "runs" / checked_name(name, "run")


def finished_folders(runs: Path) -> list[Path]:
    """Return the folders of the finished runs below a folder, by name."""
    return sorted(file.parent for file in runs.glob(f"[!.]*/{RESULTS}"))


def finished_run(folder: Path) -> Path:
    """Return the folder of a run after a check that it is finished.

    Raises:
        BadInputError: The run is unknown or unfinished.
    """
    if (folder / RESULTS).is_file():
        return folder
    if unfinished_folder(folder).exists():
        raise BadInputError(f"the run {folder.name!r} is unfinished: run its `billp study` command again to finish it")
    names = [one.name for one in finished_folders(folder.parent)]
    choose = f"choose one of {', '.join(names)}, or " if names else ""
    raise BadInputError(f"there is no run {folder.name!r}: {choose}run `billp study --out {folder.name}` first")


def check_settings(settings: StudySettings) -> World:
    """Check a study before any work is done, and return its world, built if missing.

    Raises:
        BadInputError: A variant, the model or the world is unknown, the world has too few users, or a part that is to
            be measured is switched off for all variants.
    """
    check_variants(settings.variants)
    if settings.ablate:
        check_whole(settings.context)
    for model in settings.context.models:
        chat_model(model, settings.context.temperature)
    world = load_world(settings.world)
    _check_users(world, settings.test_split, settings.test, "--test")
    if settings.curve:
        _check_users(world, "dev", settings.curve_users, "--curve-users")
    return world


def check_variants(names: Sequence[str]) -> None:
    """Check the variants and baselines of a study.

    Raises:
        BadInputError: A name is unknown or given twice, or the variant cannot run in a study.
    """
    known = [*VARIANTS, *BASELINES]
    for name in names:
        if name not in known:
            raise BadInputError(f"there is no variant {name!r}: choose among {', '.join(known)}")
        if name in VARIANTS and name in BASELINES:
            raise BadInputError(f"there is a baseline {name!r} too: give the variant another name")
        check_baseline(name)
    if len(set(names)) < len(names):
        raise BadInputError("a variant is named twice: name each variant once")


def _check_users(world: World, split: SplitName, wanted: int, option: str) -> None:
    available = len(world.split(split).users)
    if wanted > available:
        raise BadInputError(f"world {world.name!r} has {available} {split} users: {option} can be {available} at most")


def check_prices(context: Context, max_cost: float | None, server: str) -> bool:
    """Return whether the prices of all models are known.

    Raises:
        BadInputError: `max_cost` needs prices that are unknown, or cannot apply because a server makes the calls.
    """
    unknown = sorted(model for model in context.models if price_of(model) is None)
    others = sorted(model for model in context.models if model != "rules" and not at_endpoint(model))
    if max_cost is not None and others:
        raise BadInputError(
            f"--max-cost cannot limit {', '.join(others)}: its package makes the calls itself; leave out --max-cost"
        )
    if max_cost is not None and unknown:
        raise BadInputError(
            f"--max-cost needs the price of {', '.join(unknown)}: add it to the file that BILLP_PRICES names"
        )
    if max_cost is not None and server:
        raise BadInputError("--max-cost cannot limit the calls of a server: leave out --max-cost or --server")
    return not unknown


async def _spent(logs: Mapping[Path, VisitLog]) -> float:
    """Return the cost of an unfinished study so far, in dollars, from the visit logs in the folders of its cells."""
    spent = 0.0
    for folder, log in logs.items():
        spent += log.cost
        if (folder / CHECKPOINTS).exists():
            under_way = await costs_under_way(folder / CHECKPOINTS)
            spent += sum(cost for thread, cost in under_way.items() if thread not in log.threads)
    return spent


def _write_json_lines(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    if not lines:
        return
    with file.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
