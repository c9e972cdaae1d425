"""results.csv: every finished run below a directory in one file, whoever else finishes a run there at the same time."""

import sys
from pathlib import Path

from backbones.errors import InputError
from benchmarks.planning.records import load_records
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.writing import write_results_csv
from results import Record, ResultsError

RESULTS = "results.csv"
_CLAIM = ".results.csv.claim"

_PATIENCE = 120.0
"""Seconds that others may take to write it."""


def collect(out: Path) -> int:
    """Write `out/results.csv` anew from the records below `out`, and return how many runs are in it.

    One process at a time looks and writes, so that no row is lost where several runs end together. Records that can't
    be read are named on standard error, and passed over. Raises ResultsError if there is no such directory or the file
    cannot be written, InputError if another process is writing it and comes to no end.
    """
    if not out.is_dir():
        raise ResultsError(f"{out}: no such directory. Expected one that holds runs, such as the --out of a run")
    try:
        with Lease(out / _CLAIM, patience=_PATIENCE):
            runs = load_records([out], on_unreadable=warn)
            write_results_csv(out / RESULTS, (record for _, record in runs))
            return len(runs)
    except HeldByAnotherError as owner:
        raise InputError(
            f"{out / RESULTS}: {owner} has been writing it for {_PATIENCE:.0f} s. Once that has ended, "
            f"`backbench collect {out}` writes the file anew"
        ) from None


def is_collected(out: Path, directory: Path, record: Record) -> bool:
    """Whether `out/results.csv` has the finished run in `directory`, as it now is."""
    results = out / RESULTS
    try:
        is_newer = results.stat().st_mtime >= (directory / "record.json").stat().st_mtime
        return is_newer and record.key.encode() in results.read_bytes()
    except FileNotFoundError:
        return False


def warn(error: ResultsError) -> None:
    """Tell of a record that is passed over."""
    print(f"backbench: passed over: {error}", file=sys.stderr)
