"""Files that appear under their name when all of them is written, or not at all."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_checks: list[Callable[[], None]] = []


@contextmanager
def checked_before_writing(check: Callable[[], None]) -> Iterator[None]:
    """Within the block call `check` before anything is written: a process that may write no more ends in it."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)


def check_before_writing() -> None:
    """To be called before a file is changed otherwise than by `written_whole`."""
    for check in _checks:
        check()


@contextmanager
def written_whole(path: Path, *, several_writers: bool = True, safe_from_power_cuts: bool = True) -> Iterator[BinaryIO]:
    """A file to write into that appears under its name when all is written, or not at all; missing folders are made.

    Until then it lies beside it under a hidden name of its own, since a process that was stopped may come back and find
    another at the same file; without `several_writers` under one name, so that what a killed process left there is
    overwritten. What can be made again in no time need not be `safe_from_power_cuts`: waiting for the disk takes longer
    than writing a small file. Links are followed, and what is there and no regular file, such as a device or a pipe, is
    written into as it is.
    """
    check_before_writing()
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6) if several_writers else 'partial'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
            if safe_from_power_cuts:
                file.flush()
                os.fsync(file.fileno())
        check_before_writing()
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def why_not_written(error: BaseException) -> tuple[str, int | None]:
    """What the system said and its number for that.

    torch's writer covers it with a RuntimeError about positions.
    """
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror, cause.errno
    return next(iter(str(error).splitlines()), type(error).__name__), None
