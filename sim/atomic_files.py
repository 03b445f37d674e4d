"""Atomic files and folders: written completely or not at all; unfinished ones can be resumed."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from sim.errors import BadInputError

RUN_LOCK = ".lock"


class FolderInUseError(BadInputError):
    """Error for a folder that another process has locked.

    Args:
        message: The message.
        lock: File of the lock.
    """

    # The default serves unpickling, which restores the attribute afterwards.
    def __init__(self, message: str, lock: Path = Path()) -> None:
        super().__init__(message)
        self.lock = lock


# Number of attempts to replace a folder that other processes keep replacing.
_ATTEMPTS = 5
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


def can_write(path: Path) -> bool:
    """Return whether this process may create or change `path`, as far as permissions tell."""
    existing = next((one for one in (path, *path.absolute().parents) if os.path.lexists(one)), path)
    return (existing.is_dir() or existing == path) and os.access(existing, os.W_OK)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder. It replaces `path` if the block succeeds and is deleted if it fails.

    Raises:
        OSError: The folder cannot be written; `path` is unchanged.
    """
    _sweep(path)
    fresh = _sibling(path, "new")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        _put_in_place(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path` for data that exceeds memory; it is deleted when the block ends.

    Raises:
        OSError: The folder cannot be created.
    """
    _sweep(path)
    scratch = _sibling(path, "scratch")
    try:
        scratch.mkdir(parents=True)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path) -> Iterator[Path]:
    """Yield a folder. It replaces `path` if the block succeeds and is kept for the next attempt if it fails.

    Raises:
        FolderInUseError: Another process works on the folder.
        OSError: The folder cannot be written; `path` is unchanged.
    """
    _sweep(path)
    unfinished = unfinished_folder(path)
    with locked_folder(unfinished):
        yield unfinished
        _put_in_place(unfinished, path)
        (path / RUN_LOCK).unlink()


def unfinished_folder(path: Path) -> Path:
    """Return the folder that `resumable_folder` fills before it replaces `path`."""
    return path.parent / f".{path.name}.unfinished"


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Lock a folder for this process while the block runs; create the folder if it is missing.

    Raises:
        FolderInUseError: Another process has locked the folder.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / RUN_LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            message = f"{path} is in use by another process: wait until it has ended"
            raise FolderInUseError(message, path / RUN_LOCK) from None
        # The previous holder may have moved or deleted the folder before it released the lock.
        if (path / RUN_LOCK).exists():
            break
        lock.release()
    try:
        yield
    finally:
        lock.release()


def write_atomic(path: Path, text: str) -> None:
    """Write a text file atomically: a reader sees either the old content or the new."""
    with atomic_file(path) as stream:
        stream.write(text)


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Yield a new text file. It replaces `path` if the block succeeds and is deleted if it fails.

    Raises:
        OSError: The file cannot be written; `path` is unchanged.
    """
    fresh = unfinished_file(path)
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            yield stream
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def unfinished_file(path: Path) -> Path:
    """Return the file that `atomic_file` writes before it replaces `path`."""
    # The name is always the same, so the next write replaces the leftover of a killed process.
    return path.with_name(f".{path.name}.new")


def _sibling(path: Path, role: str) -> Path:
    # Next to the target, so that the rename stays in one file system; hidden, so that listings skip it.
    return path.parent / f".{path.name}.{role}-{os.getpid()}-{secrets.token_hex(4)}"


def _sweep(path: Path) -> None:
    """Delete leftovers of killed processes that were writing `path`; restore the old folder if it was moved away."""
    for left in path.parent.glob(f".{path.name}.*-*-*"):
        pid = left.name.split("-")[-2]
        if not pid.isdigit() or _runs(int(pid)):
            continue
        if left.name.startswith(f".{path.name}.old-") and not path.exists():
            # The process was killed between moving the old folder away and moving the new one in.
            left.rename(path)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put_in_place(fresh: Path, path: Path) -> None:
    """Rename `fresh` to `path`. An existing `path` is moved away first, and moved back if the rename fails."""
    old = _sibling(path, "old")
    for attempts_left in reversed(range(_ATTEMPTS)):
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            fresh.rename(path)
        except OSError as error:
            # Another process created `path` in the meantime: replace that folder too.
            if error.errno in _TAKEN and attempts_left:
                continue
            if old.exists() and not path.exists():
                old.rename(path)
            raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)
