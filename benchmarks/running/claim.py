"""One call at a time works on a run's directory."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backbones.errors import InputError
from backbones.training.machine import process_rank
from benchmarks.running.writing import write_text

LOCK, RECIPE = ".lock", "recipe.yaml"

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""


@contextmanager
def claimed(directory: Path, out: Path, recipe: str) -> Iterator[None]:
    """Keep a second call from training in `directory` at the same time, and put the recipe, as YAML, there.

    Raises InputError if another process is at work there, or nothing can be written.
    """
    if process_rank() != 0:
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / LOCK).open("w")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to ({error.strerror}). Choose another directory") from error
    with lock:
        os.register_at_fork(after_in_child=lock.close)  # loader processes would hold it on after a kill
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{directory}: another process is at work on this run. Wait for it") from error
        try:
            write_text(directory / RECIPE, recipe)
            yield
        except OSError as error:
            if error.errno not in WRITE_FAILURES:
                raise
            raise InputError(
                f"{error.filename or directory}: cannot be written ({error.strerror}). Make room and repeat the "
                "command: it goes on from the last checkpoint"
            ) from error
        finally:
            _remove_if_nothing_came_of_it(directory, out)


def _remove_if_nothing_came_of_it(directory: Path, out: Path) -> None:
    """Take back the directories below `out` of a call that failed before it began to train."""
    if {path.name for path in directory.iterdir()} <= {LOCK, RECIPE}:
        shutil.rmtree(directory)
        with suppress(OSError):  # the first that is not empty
            for parent in directory.parents:
                if parent == out:
                    break
                parent.rmdir()
