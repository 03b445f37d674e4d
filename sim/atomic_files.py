"""Write files and folders whole or not at all, and go on with what was left unfinished."""

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
    """Raised where another process holds a folder."""


# So often a folder is put in place of one that another process put there in between.
_ATTEMPTS = 5
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        OSError: The folder cannot be written; what was at `path` is as it was.
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
    """Yield a folder beside `path` for what is too large for memory; it goes when the block ends.

    Raises:
        OSError: It cannot be made.
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
    """Yield a folder that takes the place of `path` when the block ends well, and stays for a next try otherwise.

    Raises:
        FolderInUseError: Another process works on it.
        OSError: The folder cannot be written; what was at `path` is as it was.
    """
    _sweep(path)
    unfinished = unfinished_folder(path)
    with locked_folder(unfinished):
        yield unfinished
        _put_in_place(unfinished, path)
        (path / RUN_LOCK).unlink()


def unfinished_folder(path: Path) -> Path:
    """Return where `resumable_folder` keeps what is to take the place of `path`."""
    return path.parent / f".{path.name}.unfinished"


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold a folder, made where it is not there, for this process alone while the block runs.

    Raises:
        FolderInUseError: Another process holds it.
    """
    while True:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / RUN_LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise FolderInUseError(f"{path} is in use by another process: wait until it has ended") from None
        # Whoever held it may have moved or removed it before letting go.
        if (path / RUN_LOCK).exists():
            break
        lock.release()
    try:
        yield
    finally:
        lock.release()


def write_atomic(path: Path, text: str) -> None:
    """Write a file of text so that it is the former or the new one at any moment."""
    with atomic_file(path) as stream:
        stream.write(text)


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Yield a new file of text that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        OSError: It cannot be written; what was at `path` is as it was.
    """
    # Always the same name, so that what a process that was ended left is written over.
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            yield stream
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _sibling(path: Path, role: str) -> Path:
    # Beside the target, so that renaming stays within one file system; hidden, so that no listing takes it for one.
    return path.parent / f".{path.name}.{role}-{os.getpid()}-{secrets.token_hex(4)}"


def _sweep(path: Path) -> None:
    """Remove what processes that were killed had begun to write in the place of `path`."""
    for left in path.parent.glob(f".{path.name}.*-*-*"):
        pid = left.name.split("-")[-2]
        if not pid.isdigit() or _runs(int(pid)):
            continue
        if left.name.startswith(f".{path.name}.old-") and not path.exists():
            # Ended between moving the former one aside and putting the new one in its place.
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
    """Rename `fresh` to `path`; what was there is moved aside first, and back if that fails."""
    old = _sibling(path, "old")
    for attempts_left in reversed(range(_ATTEMPTS)):
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            fresh.rename(path)
        except OSError as error:
            # Another process put its world there in between: that one is replaced in turn.
            if error.errno in _TAKEN and attempts_left:
                continue
            if old.exists() and not path.exists():
                old.rename(path)
            raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)
