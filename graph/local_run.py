"""Run one visit here, with the memory under BILLP_HOME; one that was stopped can be gone on with."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from pydantic import BaseModel, SerializeAsAny, ValidationError, ValidationInfo, field_validator

from graph.checkpoints import checkpointer
from graph.episode import build_variant
from graph.variants import VARIANTS, settings_schema, variant_settings
from memory.home import home
from memory.store import create_store
from nodes.context import Context
from nodes.lifecycle import check_input
from nodes.llm.models import chat_model
from nodes.state import Step, VisitInput, VisitOutput, VisitStart
from nodes.user_view import visitor
from sim.atomic_files import FolderInUseError, locked_folder, write_atomic
from sim.errors import BadInputError

VISIT_FILE = "visit.json"


class LocalVisit(BaseModel):
    """A visit that the command line runs."""

    variant: str
    visit: VisitInput
    context: SerializeAsAny[Context]
    remember: bool = True
    """Whether to recall memories and to write them."""

    @field_validator("context", mode="before")
    @classmethod
    def _with_those_of_roles(cls, context: Any, info: ValidationInfo) -> Any:
        schema = settings_schema([info.data["variant"]]) if "variant" in info.data else Context
        return schema.model_validate(context) if isinstance(context, dict) else context


async def run_episode(episode: LocalVisit, show: Callable[[Step], None]) -> VisitOutput:
    """Run a visit.

    Args:
        episode: The visit.
        show: Is called with each round as it ends.

    Raises:
        BadInputError: The variant, the model or the input cannot be used.
    """
    if episode.variant not in VARIANTS:
        raise BadInputError(f"there is no variant {episode.variant!r}: choose among {', '.join(VARIANTS)}")
    # Written down in full, so that a resume knows what was set.
    episode = episode.model_copy(update={"context": variant_settings(episode.variant, episode.context)})
    for model in episode.context.models:
        chat_model(model, episode.context.temperature)
    # Before the memory is opened, so that a bad input leaves nothing behind.
    await visitor(check_input(VisitStart.model_validate(episode.visit.model_dump())))
    async with _memory(episode.remember) as store:
        # A folder for each visit, so that it is plain which was left unfinished, and none outlives its end.
        folder = _visits() / str(uuid4())
        with locked_folder(folder):
            write_atomic(folder / VISIT_FILE, episode.model_dump_json())
            return await _run(episode, folder, store, show)


async def resume_episode(show: Callable[[Step], None]) -> tuple[LocalVisit, VisitOutput]:
    """Run the rest of the visit that was begun last of those left unfinished; return it, and what came of it.

    Raises:
        BadInputError: There is none.
    """
    newest = sorted((file.stat().st_mtime, file) for file in _visits().glob(f"*/{VISIT_FILE}"))
    for _, file in reversed(newest):
        with suppress(FolderInUseError), locked_folder(file.parent):
            if (episode := _begun(file)) is not None:
                async with _memory(episode.remember) as store:
                    return episode, await _run(episode, file.parent, store, show)
    raise BadInputError("no visit was left unfinished: `billp episode` begins one")


def _begun(file: Path) -> LocalVisit | None:
    """Return the visit that a file tells of; None where it has just ended, or another version wrote it."""
    try:
        return LocalVisit.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _visits() -> Path:
    return home() / "visits"


async def _run(episode: LocalVisit, folder: Path, store: BaseStore | None, show: Callable[[Step], None]) -> VisitOutput:
    """Run a visit, or the rest of it; its folder goes when it ends well."""
    variant, visit = episode.variant, episode.visit
    last = VARIANTS[variant].step[-1].__name__
    async with checkpointer(folder / "checkpoints.sqlite", VARIANTS[variant].nodes) as saver:
        graph = build_variant(variant).compile(checkpointer=saver, store=store)
        # A thread of its own, so that the visit recalls what former ones of the same user taught.
        config: RunnableConfig = {"configurable": {"thread_id": folder.name}}
        begun = await saver.aget_tuple(config) is not None
        stream: Any = graph.astream(
            None if begun else visit, config, context=episode.context, stream_mode=["updates", "values"]
        )
        # Closed before the checkpoints are: a write that is cut off in the middle would keep their file locked.
        async with aclosing(stream):
            async for mode, content in stream:
                if mode == "values":
                    final = content
                elif last in content:
                    show(content[last]["steps"][-1])
    output = VisitOutput.model_validate(final)
    shutil.rmtree(folder)
    return output


@asynccontextmanager
async def _memory(remember: bool) -> AsyncIterator[BaseStore | None]:
    if not remember:
        yield None
        return
    async with create_store() as store:
        yield store
