"""Progress and results of a command on the terminal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from graph.console import print_json
from graph.report.replies import count_replies, useless_by_role
from graph.study.baselines import BASELINES
from graph.study.settings import TRAIN, Cell
from nodes.state import Step, VisitOutput
from nodes.tools.open_world import embed_labels
from sim.leave import LeaveReason
from sim.rl.training import RECIPES
from sim.world import World

LEFT = {
    "repeat": "the item repeated one of the last four",
    "similar": "the item was too similar to one of the last four",
    "disliked": "the item was disliked",
    "chose": "they wanted to stop",
}


# Window in seconds for the speed of a study: visits become longer as the agent learns.
SPEED_SECONDS = 300.0


class EpisodeView:
    """View of a visit, round by round."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self.notes: list[str] = []
        """Lines that the first round is shown after: a visit that is refused shows none."""

    def __call__(self, step: Step) -> None:
        """Show a finished round."""
        while self.notes:
            self._console.print(self.notes.pop(0), markup=False, highlight=False, soft_wrap=True)
        if self._quiet:
            return
        distance = "" if step.distance is None else f"  distance {step.distance:.2f}"
        lines = [
            f"[bold]{step.index + 1:3}[/]  [bold]{escape(step.title)}[/] [dim]({escape(', '.join(step.genres))})[/]",
            f"predicted {step.predicted:.2f}{distance}  reward [bold]{step.reward:.2f}[/]",
        ]
        if step.plan:
            lines.insert(1, f"plan  {escape(step.plan)}")
        if step.advantage is not None and step.next_value is not None:
            lines.append(f"value {step.value:+.2f} → {step.next_value:+.2f}  advantage {step.advantage:+.2f}")
        if step.reason:
            lines.append(f"says  {escape(step.reason)}")
        if step.left:
            lines.append("[red]left[/]")
        # Long lines are not wrapped, so that each line can be searched for.
        self._console.print("\n     ".join(lines), highlight=False, soft_wrap=True)


def narrate(console: Console, output: VisitOutput, model: str) -> None:
    """Show how a visit ended."""
    console.print(end_of_visit(output.leave_reason, output.length), highlight=False)
    usage, of_no_use = output.usage, escape(useless_by_role(count_replies([output.model_dump(include={"steps"})])))
    console.print(
        f"user {escape(output.user_id)}: {output.length} rounds, total reward {output.total_reward:.1f}, "
        f"mean reward {output.mean_reward:.2f}; {usage.calls} calls of the model {escape(model)}"
        f"{' (no LLM)' if model == 'rules' else ''}, {usage.prompt_tokens:,} prompt tokens"
        f"{f', ${usage.cost:.4f}' if usage.cost else ''}"
        f"{f'; replies of no use: {of_no_use}' if of_no_use else ''}",
        highlight=False,
        soft_wrap=True,
    )


def end_of_visit(reason: LeaveReason | None, length: int) -> str:
    """Describe the end of a visit."""
    return f"The user left: {LEFT[reason]}." if reason else f"The user stayed for all {length} rounds."


class StudyView:
    """View of a study: a line for the whole study, with the remaining time, and a line for each cell.

    Args:
        console: Console to print on.
        seeds: Number of seeds.
        visits: Number of unfinished visits.
    """

    def __init__(self, console: Console, seeds: int, visits: int) -> None:
        self._progress = Progress(
            _NameColumn(table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            speed_estimate_period=SPEED_SECONDS,
        )
        self._seeds = seeds
        self._all = self._progress.add_task("all visits", total=visits, overall=True)
        self._tasks: dict[Cell, TaskID] = {}
        self._done: dict[tuple[Cell, str], int] = {}

    def __enter__(self) -> "StudyView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def __call__(self, cell: Cell, batch: str, done: int, total: int) -> None:
        """Show that `done` of the `total` visits of a batch are done, or of the steps of reinforcement learning."""
        self._progress.start()
        if cell not in self._tasks:
            self._tasks[cell] = self._progress.add_task("", overall=False)
        seed = f" seed {cell.seed}" if self._seeds > 1 else ""
        counted = "steps" if batch == TRAIN and cell.variant in RECIPES else "visits"
        self._progress.update(
            self._tasks[cell], description=f"{cell.name}{seed}: {batch} {counted}", completed=done, total=total
        )
        if batch != TRAIN or cell.variant not in BASELINES:
            # The visits already done at the first call were finished before the study was resumed.
            before = self._done.setdefault((cell, batch), done)
            self._progress.advance(self._all, done - before)
            self._done[cell, batch] = done


class _NameColumn(TimeRemainingColumn):
    """Name of a line; for the whole study also the remaining time, which has no room in another column."""

    # A name changes from batch to batch, before the first visit of the next batch ends.
    max_refresh = 0.0

    def render(self, task: Task) -> Text:
        name = Text(task.description)
        return name.append(", ").append(super().render(task)).append(" left") if task.fields["overall"] else name


def embed_with_progress(console: Console, world: World, folder: Path | None = None) -> None:
    """Embed the labels of a world's items unless already embedded, and show the progress."""
    columns = (TextColumn("Embedding titles"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    task = progress.add_task("", total=len(world.catalogue))

    def show(done: int) -> None:
        progress.start()
        progress.update(task, completed=done)

    try:
        embed_labels(world, show, folder)
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def reading_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows the progress of reading each file."""
    columns = (TextColumn("Reading {task.description}"), BarColumn(bar_width=24), TaskProgressColumn())
    # In a file, only errors are written: a progress bar would come before the one line of an error.
    progress = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        progress.start()
        if name not in tasks:
            tasks[name] = progress.add_task(escape(name), total=total)
        progress.update(tasks[name], completed=done)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def print_world(console: Console, world: Mapping[str, Any], as_json: bool) -> None:
    """Print the world description that `sim.metrics.world_summary.describe` returns."""
    if as_json:
        print_json(world)
        return
    users = ", ".join(f"{count} {split}" for split, count in world["users"].items())
    lines = [
        f"world     {world['name']} (source {world['source'] or 'unknown'}, seed {world['seed']}, cut {world['cut']})",
        f"users     {users}; {world['users_without_history']} more have no history",
        f"known     items of a user's history {'may' if world['allow_known'] else 'do not'} come again",
        f"items     {world['items']:,} with {world['ratings']:,} ratings ({world['density']:.2%} of all pairs)",
        "left out  " + counted(world["left_out"]),
        *(["read as   " + counted(world["read_as"])] if world["read_as"] else []),
        f"ratings   {_histogram(world['histogram'])}",
        f"genres    {len(world['genres'])}: {', '.join(world['genres'])}",
        "tau       " + ", ".join(f"{model} {tau:.3f}" for model, tau in world["tau"].items()),
        "RMSE      " + ", ".join(f"{model} {rmse:.3f}" for model, rmse in world["rmse"].items()),
    ]
    for policy, shares in world["leave_shares"].items():
        parts = ", ".join(f"{shares[reason]:.1%} {reason}" for reason in ("repeat", "similar", "disliked"))
        lines.append(f"leaves    under {policy}: {parts}")
    scores = (f"{policy} {one['total_reward']:.1f} ({one['length']:.1f})" for policy, one in world["scores"].items())
    lines.append(f"scores    total reward (length) of {world['score_users']} dev users: {', '.join(scores)}")
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
    for warning in world["warnings"]:
        console.print(f"[yellow]warning[/]   {escape(warning)}", highlight=False, soft_wrap=True)


def counted(reasons: Mapping[str, int]) -> str:
    """Return numbers by reason on one line."""
    return ", ".join(f"{count:,} {why}" for why, count in reasons.items()) or "nothing"


def _histogram(counts: Mapping[str, int]) -> str:
    everything = max(sum(counts.values()), 1)
    return ", ".join(f"{point}: {count / everything:.1%}" for point, count in counts.items())
