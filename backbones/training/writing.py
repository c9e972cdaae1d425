"""Files that appear under their name when all of them is written, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(
    path: Path, *, several_writers: bool = False, safe_from_power_cuts: bool = True
) -> Iterator[BinaryIO]:
    """A file to write into that appears under its name when all is written, or not at all; missing folders are made.

    Until then it lies beside it under one hidden name, so that what a killed run left there is overwritten; with
    `several_writers`, which may write the same file at once, under a name of its own. What can be made again in no time
    need not be `safe_from_power_cuts`: waiting for the disk takes longer than writing a small file. Links are followed,
    and what is there and no regular file, such as a device or a pipe, is written into as it is.
    """
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
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
