"""Visits in this process, with the memory under BILLP_HOME; an unfinished visit can be resumed."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from pydantic import BaseModel, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from graph.checkpoints import CHECKPOINTS, checkpointer
from graph.episode import build_variant
from graph.variants import VARIANTS, settings_schema, variant_settings
from memory.home import home
from memory.store import create_store
from nodes.context import Context
from nodes.lifecycle import check_input
from nodes.llm.models import chat_model
from nodes.state import Step, VisitInput, VisitOutput, VisitStart
from nodes.user_view import visitor
from sim.atomic_files import FolderInUseError, can_write, locked_folder, write_atomic
from sim.errors import BadInputError

VISIT_FILE = "visit.json"


class LocalVisit(BaseModel):
    """Visit run by the command line."""

    variant: str
    visit: VisitInput
    context: SerializeAsAny[Context]
    remember: bool = True
    """Whether to recall and write memories."""

    @field_validator("context", mode="before")
    @classmethod
    def _with_those_of_roles(cls, context: Any, info: ValidationInfo) -> Any:
        schema = settings_schema([info.data["variant"]]) if "variant" in info.data else Context
        return schema.model_validate(context) if isinstance(context, dict) else context


class _VariantOfVisit(BaseModel):
    """Variant of a visit, before its settings are read."""

    variant: str


async def run_episode(episode: LocalVisit, show: Callable[[Step], None]) -> VisitOutput:
    """Run a visit.

    A visit without memory needs no home that can be written; there it cannot be resumed.

    Args:
        episode: The visit.
        show: Called with each round when the round ends.

    Raises:
        BadInputError: The variant, the model or the input is invalid.
    """
    _check_variant(episode.variant)
    # Save all settings, so that a resume uses the same ones.
    episode = episode.model_copy(update={"context": variant_settings(episode.variant, episode.context)})
    for model in episode.context.models:
        chat_model(model, episode.context.temperature)
    # Check the input before the memory is opened, so that an invalid input leaves no files.
    await visitor(check_input(VisitStart.model_validate(episode.visit.model_dump())))
    if not episode.remember and not can_write(_visits()):
        return await _run(episode, str(uuid4()), None, None, show)
    async with _memory(episode.remember) as store:
        with _new_folder() as folder:
            write_atomic(folder / VISIT_FILE, episode.model_dump_json())
            output = await _run(episode, folder.name, folder / CHECKPOINTS, store, show)
            shutil.rmtree(folder)
            return output


async def resume_episode(show: Callable[[Step], None]) -> tuple[LocalVisit, VisitOutput]:
    """Resume the most recent unfinished visit; return the visit and its output.

    Raises:
        BadInputError: No visit is unfinished, or its variant is unknown.
    """
    _delete_leftovers()
    newest = sorted((file.stat().st_mtime, file) for file in _visits().glob(f"*/{VISIT_FILE}"))
    for _, file in reversed(newest):
        with suppress(FolderInUseError), locked_folder(file.parent):
            if (episode := _read_visit(file)) is not None:
                async with _memory(episode.remember) as store:
                    output = await _run(episode, file.parent.name, file.parent / CHECKPOINTS, store, show)
                    shutil.rmtree(file.parent)
                    return episode, output
    raise BadInputError("there is no unfinished visit to resume: start one with `billp episode`")


def _check_variant(name: str) -> None:
    if name not in VARIANTS:
        raise BadInputError(
            f"there is no variant {name!r}: choose among {', '.join(VARIANTS)}, or give --variant FILE.py:NAME"
        )


def _read_visit(file: Path) -> LocalVisit | None:
    """Return the visit described by a file; None if the visit has just ended or another version wrote the file.

    Raises:
        BadInputError: The variant is unknown. The settings of its roles are known once its file is loaded.
    """
    try:
        content = file.read_bytes()
        _check_variant(_VariantOfVisit.model_validate_json(content).variant)
        return LocalVisit.model_validate_json(content)
    except (FileNotFoundError, ValidationError):
        return None


@contextmanager
def _new_folder() -> Iterator[Path]:
    """Yield a folder for a new visit, locked: it shows an unfinished visit, and is deleted when the visit ends."""
    while True:
        folder = _visits() / str(uuid4())
        with ExitStack() as stack:
            try:
                stack.enter_context(locked_folder(folder))
            except FolderInUseError:
                # Another process took the empty folder for a leftover, and deletes it.
                continue
            yield folder
            return


def _delete_leftovers() -> None:
    """Delete folders without a visit: their process was killed as it began, or when the visit had ended."""
    for folder in _visits().glob("*"):
        if folder.is_dir() and not (folder / VISIT_FILE).exists():
            with suppress(FolderInUseError), locked_folder(folder):
                if not (folder / VISIT_FILE).exists():
                    shutil.rmtree(folder)


def _visits() -> Path:
    return home() / "visits"


async def _run(
    episode: LocalVisit, thread: str, checkpoints: Path | None, store: BaseStore | None, show: Callable[[Step], None]
) -> VisitOutput:
    """Run or resume a visit on a thread; without a file of checkpoints it cannot be resumed."""
    variant, visit = episode.variant, episode.visit
    last = VARIANTS[variant].step[-1].__name__
    async with checkpointer(checkpoints or Path(":memory:"), VARIANTS[variant].nodes) as saver:
        graph = build_variant(variant).compile(checkpointer=saver, store=store)
        # A thread of its own, so that the visit recalls the memories of the user's earlier visits.
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        started = await saver.aget_tuple(config) is not None
        stream: Any = graph.astream(
            None if started else visit, config, context=episode.context, stream_mode=["updates", "values"]
        )
        finished = False
        # Close the stream before the checkpointer: a write that is interrupted would leave the SQLite file locked.
        async with aclosing(stream):
            async for mode, content in stream:
                if mode == "values":
                    final = content
                    if finished:
                        show(content["steps"][-1])
                # The last node of a round may have changed no field of the round.
                finished = mode == "updates" and last in content
    return VisitOutput.model_validate(final)


@asynccontextmanager
async def _memory(remember: bool) -> AsyncIterator[BaseStore | None]:
    if not remember:
        yield None
        return
    async with create_store() as store:
        yield store
