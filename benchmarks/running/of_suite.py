"""What a run that is a suite's cell tells the suite: that it lives, where its directory is, how it ended.

The suite's process may be gone by then, and another, on another machine, in its place.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError, TryAgainError
from backbones.training.launching import find_place

SUITE = "BACKBENCH_SUITE"
"""The suite's name, for the record."""

CELL = "BACKBENCH_CELL"
"""The cell's folder."""

ATTEMPT = "BACKBENCH_CELL_ATTEMPT"
"""Which of the cell's attempts this is; another one has another."""

_TOLD = "BACKBENCH_CELL_TOLD"
"""Set for what a process starts that tells the suite itself."""

RUN = "run"
"""In the cell's folder: the path of the run's directory from the store's, and in a second line the data's root, links
followed."""

PROCESS = "process"
"""In the cell's folder, the lease of the process that carries it out."""

END = "end"
"""In the cell's folder: the attempt that ended last, and its exit status."""


@dataclass(frozen=True)
class ToldRun:
    """Where a cell's run lies, from the store's folder, and on which data it is, by their root, links followed."""

    directory: Path
    data: str


def suite_name() -> str:
    """Which suite this process carries out a cell of; empty for none."""
    return os.environ.get(SUITE, "")


def tell_directory(directory: Path, out: Path, data: Path) -> None:
    """Tell the suite, if there is one, where its cell's run lies. To be called by the first process."""
    folder = os.environ.get(CELL)
    if folder:
        _write(Path(folder) / RUN, f"{directory.relative_to(out)}\n{os.path.realpath(data)}\n")


def tell_run(folder: Path, directory: Path) -> None:
    """Tell, in a cell's folder, of a finished run that answers to it, on data that are not there to be compared."""
    _write(folder / RUN, f"{directory}\n\n")


def read_run(folder: Path) -> ToldRun | None:
    """What `tell_directory` has left in a cell's folder; None before it has."""
    try:
        directory, _, data = (folder / RUN).read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
    except OSError:
        return None
    return ToldRun(Path(directory), data.removesuffix("\n")) if directory else None


@contextmanager
def telling_suite() -> Iterator[None]:
    """Let the suite, if this is the process of one of its cells, see that it lives, and afterwards how it has ended.

    Within the block nobody else carries the cell out in the suite's name. Raises SystemExit if somebody does already.
    """
    folder = os.environ.get(CELL)
    if not folder or _TOLD in os.environ or not _is_first():
        yield
        return
    from benchmarks.running.lease import HeldByAnotherError, Lease

    try:
        lease = Lease(Path(folder) / PROCESS)
    except HeldByAnotherError as owner:
        print(f"backbench: {folder}: {owner} carries this cell out. Wait for it, or stop it", file=sys.stderr)
        raise SystemExit(TryAgainError.status) from None
    except OSError:  # the run does not depend on it
        yield
        return
    os.environ[_TOLD] = "1"
    status = 1
    try:
        yield
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    finally:
        with suppress(OSError):
            if lease.is_held():
                _write(Path(folder) / END, f"{os.environ.get(ATTEMPT, '')} {status}\n")
        lease.release()


def read_end(folder: Path, attempt: str) -> int | None:
    """The exit status of an attempt, if it was the last to end and could say so."""
    try:
        said, _, status = (folder / END).read_text(encoding="utf-8").partition(" ")
        return int(status) if said == attempt else None
    except (OSError, ValueError):
        return None


def _is_first() -> bool:
    try:
        return find_place().rank == 0
    except InputError:  # said elsewhere
        return False


def _write(path: Path, text: str) -> None:
    from backbones.training.writing import written_whole

    with suppress(OSError), written_whole(path, safe_from_power_cuts=False) as file:
        file.write(os.fsencode(text))
