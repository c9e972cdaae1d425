"""results.csv: every finished run below a directory in one file, whoever else finishes a run there at the same time."""

import csv
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from backbones.errors import NO_ROOM, TryAgainError
from backbones.training.writing import checked_before_writing
from benchmarks.planning.records import complete, load_records
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.writing import write_results_csv
from results import Record, ResultsError, results_csv
from results.errors import NoRoomError, StoreError
from results.garbage_collection import garbage_collection_paused
from results.record import spell_out
from results.rereading import reread

RESULTS = "results.csv"
_CLAIM = ".results.csv.claim"

_LEFT = f".{RESULTS}.{'[0-9a-f]' * 12}"
"""What a process leaves beside its claim that is killed while it writes the file."""

_PATIENCE = 120.0
"""Seconds that others may take to write it."""

_TRIES = 3
"""To look and write, while others take this process for dead."""


class _FollowedError(Exception):
    """Another process writes the file by now, from a newer look."""


def collect(out: Path) -> int:
    """Write `out/results.csv` anew from the records below `out`, and return how many runs are in it.

    One process at a time looks and writes, so that no row is lost where several runs end together; one that was stopped
    meanwhile looks again. Records that can't be read are named on standard error, and passed over. Raises ResultsError
    if there is no such directory or the file cannot be written, TryAgainError if another process is writing it and
    comes to no end.
    """
    return _collect(out, None)


def collect_run(out: Path, record: Record) -> None:
    """The same, unless another process has just collected the finished run."""
    _collect(out, record)


def _collect(out: Path, record: Record | None) -> int:
    if not out.is_dir():
        raise StoreError(f"{out}: no such directory. Expected one that holds runs, such as the --out of a run")
    repeat = f"Once that has ended, `backbench collect {out}` writes the file anew"
    try:
        for _ in range(_TRIES):
            with suppress(_FollowedError), Lease(out / _CLAIM, patience=_PATIENCE) as lease:
                if record and is_collected(out, record):
                    return 0
                return _write(out, lease)
    except HeldByAnotherError as owner:
        raise TryAgainError(
            f"{out / RESULTS}: could not be renewed within {_PATIENCE:.0f} s, {owner} is writing it. {repeat}"
        ) from None
    except OSError as error:
        kind = NoRoomError if error.errno in NO_ROOM else StoreError
        raise kind(
            f"{out / RESULTS}: cannot be renewed: {error.filename or out / _CLAIM}: {error.strerror or error}. "
            f"`backbench collect {out}` writes the file anew where that is mended"
        ) from error
    raise TryAgainError(f"{out / RESULTS}: could not be renewed, others took over {_TRIES} times. {repeat}")


@garbage_collection_paused()
def _write(out: Path, lease: Lease) -> int:
    """Look and write, without what a killed process has left. Raises _FollowedError if another is to write by then."""

    def check() -> None:
        if not lease.is_held():
            raise _FollowedError

    for path in out.glob(_LEFT):
        path.unlink(missing_ok=True)
    with checked_before_writing(check):
        runs = load_records([out], on_unreadable=warn)
        directories = [directory.relative_to(out).as_posix() for directory, _ in runs]
        write_results_csv(out / RESULTS, (record for _, record in runs), directories)
        return len(runs)


def is_collected(out: Path, record: Record) -> bool:
    """Whether `out/results.csv` has the finished run as this record tells of it, wherever it lies."""
    try:
        found = _rows(reread((out / RESULTS).read_bytes), record)
        return found == _rows(spell_out(results_csv([complete(record)])).encode(), record)
    except (OSError, UnicodeDecodeError, KeyError, csv.Error):
        return False


def are_listed(out: Path, runs: Iterable[str]) -> bool:
    """Whether `out/results.csv` ends as it should, and has rows of runs whose directories have these names.

    What stands in them, only `is_collected` tells.
    """
    try:
        content = (out / RESULTS).read_bytes()
    except OSError:
        return False
    return content.endswith(b"\n") and all(run.encode() in content for run in runs)


def _rows(content: bytes, record: Record) -> list[dict[str, str]]:
    """The rows of one run in a results.csv, but for its directory; of 100 MB only its lines are decoded."""
    lines, place, key = [content[: content.find(b"\n") + 1]], 0, record.key.encode()
    while (place := content.find(key, place)) >= 0:
        begin, end = content.rfind(b"\n", 0, place) + 1, content.find(b"\n", place) + 1 or len(content)
        lines.append(content[begin:end])
        place = end
    rows = csv.DictReader(line.decode() for line in lines)
    of_run = (row for row in rows if (row["key"], row.get("run")) == (record.key, str(record.run)))
    return [{column: value for column, value in row.items() if column != "directory"} for row in of_run]


def warn(error: ResultsError) -> None:
    """Tell of a record that is passed over."""
    print(f"backbench: passed over: {error}", file=sys.stderr)
