"""Record and replay of exchanges with models: every question with its reply and usage, as JSON Lines.

LangChain's cache of replies does not fit: it knows neither usage nor roles, and it gives equal prompts equal replies,
whereas two visits may get two replies to one prompt. So a question is known by its visit, role and round too.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final

from filelock import FileLock
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from langgraph.config import get_config
from pydantic import BaseModel, ConfigDict, ValidationError
from rapidfuzz import fuzz, process

from nodes.llm.endpoint.usage import Usage
from sim.errors import BadInputError

RECORD, REPLAY, REPLAY_MISSING = "BILLP_RECORD", "BILLP_REPLAY", "BILLP_REPLAY_MISSING"
# Set by the command line, whose user may read the record. A server's user may not read the visits of others.
QUOTING = "BILLP_REPLAY_QUOTES"
# What to do with a question that the record does not hold.
CALL, FAIL = "call", "error"
# Most characters shown of the place where two prompts differ, and most read of a prompt to find the nearest one.
_SHOWN = 80
_COMPARED = 4_000

# Part of a program, such as the cell of a study, whose visits may have the threads of others.
_part: ContextVar[str] = ContextVar("part", default="")


class Question(BaseModel):
    """Question of a role to its model."""

    model_config = ConfigDict(frozen=True)

    visit: str = ""
    """Part of the program and thread of the visit."""
    role: str
    round: int
    """Number of the round, from 0."""
    model: str
    temperature: float
    answer: str = ""
    """Name of the answer's schema."""
    prompt: tuple[tuple[str, str], ...] = ()
    """Kind and text of each message."""

    def asked(self, prompt: Sequence[BaseMessage], schema: type[BaseModel]) -> "Question":
        """Return the question with its prompt and schema."""
        messages = tuple((message.type, message.text) for message in prompt)
        return self.model_copy(update={"prompt": messages, "answer": schema.__name__})

    @property
    def key(self) -> str:
        """Digest of all but the visit."""
        said = json.dumps(self.model_dump(exclude={"visit"}), sort_keys=True)
        return sha256(said.encode("utf-8", "replace")).hexdigest()

    @property
    def text(self) -> str:
        """All messages as one text."""
        return "\n\n".join(text for _, text in self.prompt)


class Exchanged(BaseModel):
    """Line of a record: a question, the reply of the model, and the usage of the call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Question
    reply: str
    cut_off: bool = False
    """Whether a limit of tokens ended the reply."""
    usage: Usage

    def message(self) -> AIMessage:
        """Return the reply as the message of a model."""
        return AIMessage(self.reply, response_metadata={"finish_reason": "length"} if self.cut_off else {})


class Recording:
    """Record of this process.

    Args:
        file: File of the record; processes may share it.
        replays: Whether questions are answered from the file; if not, the file only grows.
        calls: Whether a question without a recorded reply goes to the model.
        quotes: Whether errors may quote recorded prompts.

    Raises:
        BadInputError: The file cannot be read, or not written where it may grow.
    """

    def __init__(self, file: Path, *, replays: bool, calls: bool, quotes: bool) -> None:
        self._file, self._replays, self._quotes = file, replays, quotes
        self.calls = calls
        """Whether models are called at all."""
        self._by_visit: dict[tuple[str, str], Exchanged] = {}
        self._by_key: dict[str, list[Exchanged]] = {}
        for one in _lines(file) if replays else ():
            # A resumed visit may have asked a question again; the last reply is the one that it used.
            self._by_visit[one.question.visit, one.question.key] = one
            self._by_key.setdefault(one.question.key, []).append(one)
        if calls:
            # Before the first call, because calls are paid.
            self._check_writable()

    def reply(self, question: Question) -> Exchanged | None:
        """Return the recorded reply: of the same visit, else the next one of another visit; None to call the model.

        Raises:
            BadInputError: The record holds no reply, and the model may not be called.
        """
        if not self._replays:
            return None
        key = question.key
        if (found := self._by_visit.get((question.visit, key))) is not None:
            return found
        if others := self._by_key.get(key):
            # In the order of the recording, the last one again and again.
            return others.pop(0) if len(others) > 1 else others[0]
        if self.calls:
            return None
        asked = f"{question.role} in round {question.round + 1}"
        raise BadInputError(
            f"{self._file} holds no reply for the {asked}{self._nearest(question)}: "
            "replay with the settings of the recording, or add --replay-missing call"
        )

    def add(self, question: Question, message: AIMessage, usage: Usage, *, cut_off: bool) -> None:
        """Append an exchange to the file."""
        # Broken Unicode cannot be stored.
        reply = message.text.encode("utf-8", "replace").decode("utf-8")
        line = Exchanged(question=question, reply=reply, cut_off=cut_off, usage=usage)
        text = line.model_dump_json(exclude_defaults=True).encode("utf-8") + b"\n"
        with self._appending() as file:
            file.write(text)

    def _check_writable(self) -> None:
        try:
            with self._appending():
                pass
        except OSError as error:
            raise BadInputError(
                f"{self._file} cannot be written ({error.strerror or type(error).__name__}): name another file"
            ) from None

    @contextmanager
    def _appending(self) -> Iterator[BinaryIO]:
        """Lock the file and open it for appending. Only its owner can read a new file: it holds people's words."""
        with FileLock(f"{self._file}.lock"), open(self._file, "ab", opener=_for_owner) as file:
            yield file

    def _nearest(self, question: Question) -> str:
        every = [one.question for found in self._by_key.values() for one in found]
        same_role = [one for one in every if one.role == question.role] or every
        texts = [one.text[:_COMPARED] for one in same_role]
        best = process.extractOne(question.text[:_COMPARED], texts, scorer=fuzz.ratio) if texts else None
        if best is None:
            return " (it is empty)"
        near = same_role[best[2]]
        where = f" (nearest: {near.role}, round {near.round + 1}"
        if near.prompt != question.prompt:
            said = f"says {_difference(near.text, question.text)!r}" if self._quotes else "has another prompt"
            return f"{where}, which {said})"
        other = [f"{name} {getattr(near, name)}" for name in ("model", "temperature", "answer", "round")
                 if getattr(near, name) != getattr(question, name)]  # fmt: skip
        return f"{where}, with {', '.join(other)})"


class ReplayedModel(BaseChatModel):
    """Stand-in for a model in a replay that calls none, so that neither package nor key is needed."""

    model: str
    temperature: float

    @property
    def _llm_type(self) -> str:
        return "replayed"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise BadInputError(f"the model {self.model} is replayed from a record: only roles of a visit may ask it")


def is_recorded() -> bool:
    """Return whether this process records or replays exchanges; no file is read."""
    return bool(os.environ.get(RECORD) or os.environ.get(REPLAY))


def recording() -> Recording | None:
    """Return the record of this process, by its environment; None if nothing is recorded or replayed.

    The first call reads the file, so an event loop calls this in a thread.

    Raises:
        BadInputError: The variables contradict each other, or the file cannot be used.
    """
    given = tuple(os.environ.get(name, "") for name in (RECORD, REPLAY, REPLAY_MISSING, QUOTING))
    return _opened(*given) if is_recorded() else None


@lru_cache(maxsize=1)
def _opened(record: str, replay: str, missing: str, quoting: str) -> Recording:
    if record and replay:
        raise BadInputError("--record and --replay exclude each other: --replay-missing call adds to a replayed record")
    if missing not in ("", CALL, FAIL):
        raise BadInputError(f"--replay-missing {missing}: write call or error")
    if record:
        return Recording(Path(record), replays=False, calls=True, quotes=bool(quoting))
    return Recording(Path(replay), replays=True, calls=missing == CALL, quotes=bool(quoting))


def replayed_alone() -> bool:
    """Return whether all questions are answered from a record, and no model is called."""
    used = recording()
    return used is not None and not used.calls


def use_record(record: Path | None, replay: Path | None, missing: str, server: str = "") -> None:
    """Let this process, and those that it starts, record to a file or replay one; None changes nothing.

    Raises:
        BadInputError: The options contradict each other, or the file cannot be used.
    """
    chosen = {RECORD: record, REPLAY: replay}
    for name, file in chosen.items():
        if file is not None:
            os.environ[name] = str(file.absolute())
    if missing and not os.environ.get(REPLAY):
        raise BadInputError("--replay-missing is for a replay: add --replay FILE, or leave it out")
    if missing:
        os.environ[REPLAY_MISSING] = missing
    if (record or replay) and server:
        raise BadInputError("--record and --replay see no calls of a server: leave them out, or --server")
    if is_recorded():
        os.environ[QUOTING] = "yes"
    _opened.cache_clear()
    recording()


@contextmanager
def asking_in(part: str) -> Iterator[None]:
    """Name the part of a program whose visits ask inside the block, such as the cell of a study."""
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)


def visit_name() -> str:
    """Return the name of the running visit: part of the program and thread; empty outside a thread."""
    try:
        thread = str(get_config().get("configurable", {}).get("thread_id", ""))
    except RuntimeError:
        thread = ""
    return "/".join(filter(None, (_part.get(), thread)))


def _lines(file: Path) -> Iterator[Exchanged]:
    try:
        lines: Final = file.read_bytes().splitlines()
    except FileNotFoundError:
        raise BadInputError(f"{file} does not exist: record it first with --record") from None
    except OSError as error:
        raise BadInputError(
            f"{file} cannot be read ({error.strerror or type(error).__name__}): name another file"
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            yield Exchanged.model_validate_json(line)
        except ValidationError:
            raise BadInputError(f"{file}, line {number} is no exchange of a record: remove the line") from None


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _difference(one: str, other: str) -> str:
    """Return the first line of a text that differs from the other text, from the place where it does."""
    start = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
    line = max(one.rfind("\n", 0, start) + 1, start - _SHOWN // 2)
    return " ".join(one[line : line + _SHOWN].split())
