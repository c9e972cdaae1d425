"""results.csv: every finished run below a directory in one file, whoever else finishes a run there at the same time."""

import csv
import sys
from pathlib import Path

from backbones.errors import TryAgainError
from benchmarks.planning.records import load_records
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.writing import write_results_csv
from results import Record, ResultsError
from results.errors import StoreError
from results.garbage_collection import garbage_collection_paused

RESULTS = "results.csv"
_CLAIM = ".results.csv.claim"

_PATIENCE = 120.0
"""Seconds that others may take to write it."""


def collect(out: Path) -> int:
    """Write `out/results.csv` anew from the records below `out`, and return how many runs are in it.

    One process at a time looks and writes, so that no row is lost where several runs end together. Records that can't
    be read are named on standard error, and passed over. Raises ResultsError if there is no such directory or the file
    cannot be written, TryAgainError if another process is writing it and comes to no end.
    """
    if not out.is_dir():
        raise StoreError(f"{out}: no such directory. Expected one that holds runs, such as the --out of a run")
    try:
        with Lease(out / _CLAIM, patience=_PATIENCE), garbage_collection_paused():
            runs = load_records([out], on_unreadable=warn)
            directories = [directory.relative_to(out).as_posix() for directory, _ in runs]
            write_results_csv(out / RESULTS, (record for _, record in runs), directories)
            return len(runs)
    except HeldByAnotherError as owner:
        raise TryAgainError(
            f"{out / RESULTS}: {owner} has been writing it for {_PATIENCE:.0f} s. Once that has ended, "
            f"`backbench collect {out}` writes the file anew"
        ) from None


def is_collected(out: Path, directory: Path, record: Record) -> bool:
    """Whether `out/results.csv` has the finished run in `directory`, as it now is."""
    results = out / RESULTS
    try:
        if results.stat().st_mtime < (directory / "record.json").stat().st_mtime:
            return False
        with results.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader([next(file, ""), *(line for line in file if record.key in line)])
            return any((row["key"], row.get("run")) == (record.key, str(record.run)) for row in lines)
    except (FileNotFoundError, UnicodeDecodeError, KeyError, csv.Error):
        return False


def warn(error: ResultsError) -> None:
    """Tell of a record that is passed over."""
    print(f"backbench: passed over: {error}", file=sys.stderr)
