"""Full disk: the end of a study that cannot be written, after all its visits."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from graph.study.run import REPORT, run_folder
from sim.atomic_files import unfinished_file, unfinished_folder


@contextmanager
def disk_full(name: str, file: str = REPORT) -> Iterator[None]:
    """Let the study in the block find the disk full when it writes `file`, and check that it says so.

    The study is left unfinished; the next one of that name finds room.
    """
    written = unfinished_file(unfinished_folder(run_folder(name)) / file)
    written.parent.mkdir(parents=True, exist_ok=True)
    written.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == errno.ENOSPC
    assert not written.is_symlink()
