"""A folder of nights: a store for each, of which the older ones keep what their history needs, and lose what is large.

NIGHTS/2026-11-26/ is a suite's `--out`.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from backbones.errors import InputError
from backbones.trained import WEIGHTS
from benchmarks.running.cleaning import (
    SILENT_SECONDS,
    ClaimLostError,
    claimed_to_remove,
    is_behind_a_link,
    reason_of,
    why_at_work,
)
from benchmarks.running.inventory import RUN_NAME, finished_record
from benchmarks.running.lease import HeldByAnotherError, find_owner
from benchmarks.scheduling.folders import SuiteFolder, find_suites
from benchmarks.scheduling.status import Reader, SuiteStatus
from results.nights import is_night
from results.store import RECORD, find_directories

LARGE = frozenset(
    {"checkpoints", "pictures", "tensorboard", WEIGHTS, "per_image.csv", "detections.json", "areas.npz"}
    | {"matches_AP_box.npz", "matches_AP_mask.npz"}
)
"""What goes of a run of an old night, by its name in the run's directory. All else stays: record, log, recipe."""


@dataclass
class Pruned:
    """What became of an old night. freed: bytes; runs: of which something went; left: what stayed, and why."""

    night: Path
    freed: int = 0
    runs: int = 0
    left: list[str] = field(default_factory=list)


def night_in(nights: Path, night: str | None) -> Path:
    """The store of a night, today's by default. Raises InputError for what is no date."""
    if night is None:
        return nights / f"{date.today():%Y-%m-%d}"
    if not is_night(night):
        raise InputError(f"--night {night}: expected a date, such as 2026-11-26")
    return nights / night


def prune(nights: Path, tonight: Path, keep: int) -> list[Pruned]:
    """Remove what is large of all but the newest nights; what became of each of the older ones.

    Never of tonight's, of one that somebody may be at work on, of a run that no suite of the night has made, nor
    anything behind a link.
    """
    return [_prune(night) for night in old_nights(nights, keep) if night.name != tonight.name]


def old_nights(nights: Path, keep: int) -> list[Path]:
    """The nights of suites before the newest `keep`, oldest first. What is a link, or no suite's store, is none."""
    found = [
        path
        for path in sorted(nights.iterdir())
        if is_night(path.name) and path.is_dir() and not path.is_symlink() and find_suites(path)
    ]
    return found[: max(len(found) - keep, 0)]


def _prune(night: Path) -> Pruned:
    """Of the cells, and of further seeds before a verdict, which are no cells but have the suite in their records."""
    done = Pruned(night)
    statuses = [Reader(night).read(folder) for folder in find_suites(night)]
    done.left = [why for status in statuses for why in _why_left(status)]
    if done.left:
        return done
    for status in statuses:
        cells = (cell.run for cell in status.cells if cell.run)
        for run in dict.fromkeys([*cells, *find_directories([night], (RECORD,), lambda error: None)]):
            if _is_of(run, night, status.name):
                _prune_run(run, done)
    return done


def _why_left(status: SuiteStatus) -> Iterator[str]:
    """Why a suite's night is left alone as a whole: its plan cannot be read, or somebody may be at work on a cell."""
    if status.fault:
        yield status.fault
    for cell in status.cells:
        folder = SuiteFolder(status.path.parents[1], status.name).cell(cell.job.name)
        if why := _why_owned(folder.owner) or (why_at_work(cell.run) if cell.run else ""):
            yield f"{cell.job.name}: {why}"


def _why_owned(lease: Path) -> str:
    """Who may be at work on a cell, in words; empty for nobody."""
    owner = find_owner(lease)
    if owner is None or owner.lives is False:
        return ""
    with suppress(OSError):
        if owner.lives is None and time.time() - lease.stat().st_mtime > SILENT_SECONDS:
            return ""
    return f"{owner.name} is at work on the cell, or was"


def _is_of(run: Path, night: Path, suite: str) -> bool:
    """Whether a run was made by the suite's night: it lies there, is named as a run is, and its record says so."""
    if run.is_symlink() or not RUN_NAME.fullmatch(run.name) or is_behind_a_link(run, night.resolve()):
        return False
    if not (run / RECORD).exists():
        return run.is_dir()
    record = finished_record(run)
    return record is not None and record.suite == suite


def _prune_run(run: Path, done: Pruned) -> None:
    """Remove what is large of a run, while nobody else can be at work on it."""
    try:
        large = sorted(path for path in run.iterdir() if path.name in LARGE and not path.is_symlink())
        if not large:
            return
        with claimed_to_remove(run) as check:
            for path in large:
                _remove(path, check, done)
        done.runs += 1
    except HeldByAnotherError as owner:
        done.left.append(f"{run}: {owner} is at work on the run")
    except ClaimLostError as loss:
        done.left.append(f"{run}: {loss}")
    except OSError as error:
        done.left.append(f"{run}: {reason_of(error)}")


def _remove(path: Path, check: Callable[[], None], done: Pruned) -> None:
    """Remove a file, or a folder with all that is in it; what a link leads to stays."""
    for parent, folders, files in os.walk(path, topdown=False):
        for inner in (Path(parent, name) for name in (*files, *folders)):
            _remove_one(inner, check, done)
    _remove_one(path, check, done)


def _remove_one(path: Path, check: Callable[[], None], done: Pruned) -> None:
    check()
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
        return
    size = path.lstat().st_size
    path.unlink()
    done.freed += size
