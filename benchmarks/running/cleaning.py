"""What of a store can go without losing a result, and how much room that makes."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path, PurePath
from zipfile import is_zipfile

from backbones.errors import NO_ROOM, DataError, InputError
from backbones.trained import WEIGHTS
from benchmarks.running.claim import CLAIM
from benchmarks.running.collecting import RESULTS, collect
from benchmarks.running.inventory import (
    RUN_NAME,
    SUITES,
    Run,
    files_of,
    find_all_runs,
    finished_record,
    owner_of,
    why_unreadable,
)
from benchmarks.running.lease import HeldByAnotherError, Lease
from results import Record, ResultsError
from results.store import RECORD
from tasks.registry import PRETRAINING

_CHECKPOINT = re.compile(r"iteration_(\d+)\.pth")
_PARTIAL = re.compile(r"\..+\.(json|jsonl|csv|yaml|pth|safetensors|npz|png|md|tex|gz)\.(partial|[0-9a-f]{12})")

_STALE_SECONDS = 3600.0
"""How old a partial file has to be before it is taken to be a dead process's."""

SILENT_SECONDS = 86_400.0
"""How long another host's process may give no sign of life before it is taken to be gone."""


@dataclass(frozen=True)
class Waste:
    """A file, or a run's directory, that can go: why, and its size in bytes.

    run:   the directory of the run that it is of, None for none
    later: that of the run which supersedes it, None where none does
    """

    path: Path
    why: str
    bytes: int
    run: Path | None = None
    later: Path | None = None


@dataclass(frozen=True)
class Found:
    """What can go, by path, and of what else would be waste why it is left alone."""

    waste: list[Waste]
    left: list[tuple[Waste, str]]


@dataclass
class Removal:
    """How many bytes are free now, and what could not go, with the reason."""

    freed: int = 0
    stayed: list[tuple[Path, str]] = field(default_factory=list)


def find_waste(root: Path) -> Found:
    """What can go below a directory; nothing of a run that somebody may be at work on, and nothing behind a link.

    Superseded runs: finished ones of which a later one, `.2` or `.3`, has finished too; no pre-trainings, whose weights
    others may be made from. Of other finished runs the checkpoints to go on from: all where the run left its weights
    (of a pre-training those that are exported) in files that are whole, else all but the last, which alone has them.
    And partial files of processes that are gone. Nothing that a finished run below the directory was made from, and
    nothing of a cell in which directories and records number the runs otherwise. Raises ResultsError if there is no
    such directory.
    """
    inside, runs = root.resolve(), find_all_runs(root)
    mixed_up = _mixed_up(runs)
    found = Found([], [(Waste(run.directory, "", run.bytes, run.directory), why) for run, why in mixed_up])
    cells = {_cell(run.directory) for run, _ in mixed_up}
    clear = [run for run in runs if _cell(run.directory) not in cells]
    origins = _origins(runs)
    for one in sorted(_all_waste(root, clear), key=lambda one: one.path):
        why_not = _why_not(one, inside, origins)
        if why_not:
            found.left.append((one, why_not))
        else:
            found.waste.append(one)
    return found


def remove(root: Path, waste: Sequence[Waste]) -> Removal:
    """Remove what was found and still can go, one after another, whatever happens to the others.

    Each run is claimed meanwhile, so that nobody begins in it. The `results.csv` of a store that runs have gone from is
    written anew, also where this ends early.
    """
    removal, inside, stores = Removal(), root.resolve(), set[Path]()
    try:
        for run, group in groupby(waste, key=lambda one: one.run):
            several = list(group)
            if run is None:
                for one in several:
                    if reason := _removed(one, inside, removal):
                        removal.stayed.append((one.path, reason))
                continue
            if any(one.later for one in several):
                stores |= {inside, *(inside / run.relative_to(root)).parents[3:4]}
            _remove_claimed(run, several, inside, removal)
    finally:
        for store in sorted(store for store in stores if (store / RESULTS).is_file()):
            try:
                collect(store)
            except (InputError, ResultsError, OSError) as error:
                removal.stayed.append((store / RESULTS, f"it could not be written anew: {error}"))
    return removal


def _all_waste(root: Path, runs: Sequence[Run]) -> Iterator[Waste]:
    superseded = _superseded(runs)
    for run in runs:
        if later := superseded.get(run.directory):
            why = f"superseded by {later.name}"
            yield Waste(run.directory, why, run.bytes, run.directory, later)
            continue
        for path in _old_checkpoints(run.directory):
            yield Waste(path, "checkpoint of a finished run", _size(path), run.directory)
        for path, size, written in files_of(run.directory):
            if _is_stale(path, written):
                yield Waste(path, "left by a process that is gone", size, run.directory)
    for path, size, written in files_of(root / SUITES):
        if _is_stale(path, written):
            yield Waste(path, "left by a process that is gone", size)
    for entry in os.scandir(root):
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False) and _is_stale(Path(entry.path), status.st_mtime):
                yield Waste(Path(entry.path), "left by a process that is gone", status.st_size)


def _cell(directory: Path) -> Path:
    """The directory of the first run of the cell that a run is of; of what is not named as a run is, itself."""
    match = RUN_NAME.fullmatch(directory.name)
    return directory.with_name(f"seed{match['seed']}-{match['key']}") if match else directory


def _by_cell(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each cell that has several, ascending."""
    return [several for _, group in groupby(runs, lambda run: _cell(run.directory)) if len(several := list(group)) > 1]


def _mixed_up(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """Copies and renamed runs that lie beside others as if they were of the same cell, with a sentence on each."""
    found = []
    for run in (run for several in _by_cell(runs) for run in several if run.record):
        record = run.record
        if record and not _is_own(record, run.directory):
            says = f"seed {record.seed}, key {record.key}, run {record.run}"
            why = f"its record is of {says}. A copy? Give it a name that is no run's, and others of its cell can go"
            found.append((run, why))
    return found


def _is_own(record: Record, directory: Path) -> bool:
    """Whether the record was made in a directory of that name."""
    match = RUN_NAME.fullmatch(directory.name)
    named = (int(match["seed"]), match["key"], int(match["run"] or 1)) if match else None
    return named == (record.seed, record.key, record.run)


def _superseded(runs: Sequence[Run]) -> dict[Path, Path]:
    """The latest finished run of the cell, by each finished run before it, but for pre-trainings."""
    found: dict[Path, Path] = {}
    for several in _by_cell(runs):
        finished = [run.directory for run in several if finished_record(run.directory)]
        for directory in finished[:-1]:
            if _is_superseded(directory, finished[-1]):
                found[directory] = finished[-1]
    return found


def _is_superseded(directory: Path, later: Path) -> bool:
    """Whether a finished run of the same cell has a higher number, by its record too. No pre-training is."""
    ours, theirs = finished_record(directory), finished_record(later)
    if not (ours and theirs and _is_own(ours, directory) and _is_own(theirs, later)):
        return False
    return ours.key == theirs.key and ours.run < theirs.run and ours.task != PRETRAINING


def _origins(runs: Sequence[Run]) -> dict[str, Path]:
    """A run that was made from it, by each run, and each checkpoint of one, that finished runs were made from.

    As "seed0-KEY" and "seed0-KEY/checkpoints/iteration_2.pth": stores are moved, and paths were given from anywhere.
    """
    found: dict[str, Path] = {}
    for run in runs:
        report = run.record.load_report if run.record else None
        path = PurePath(str((report or {}).get("path", "")))
        if path.name == WEIGHTS:
            found[path.parent.name] = run.directory
        if path.parts[-2:-1] == ("checkpoints",):
            found |= {path.parent.parent.name: run.directory, "/".join(path.parts[-3:]): run.directory}
    return found


def _old_checkpoints(run: Path) -> list[Path]:
    folder = run / "checkpoints"
    try:
        numbered = {int(match[1]): path for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))}
        exported = all(is_zipfile(folder / name) for name in ("encoder.pth", "autoencoder.pth"))
    except OSError:  # none, or gone
        return []
    record = finished_record(run)
    if not numbered or not record:
        return []
    exported |= record.task != PRETRAINING and _has_weights(run, record)
    ordered = [numbered[number] for number in sorted(numbered)]
    return ordered if exported else ordered[:-1]


def _has_weights(run: Path, record: Record) -> bool:
    """Whether a finished run has a file of its own weights, whole by its header."""
    if not (run / WEIGHTS).is_file():
        return False
    from backbones.trained.file import read_description  # imports torch

    with suppress(DataError):
        description = read_description(run / WEIGHTS)
        return description is not None and description.run.get("key") == record.key
    return False


def _is_stale(path: Path, written: float) -> bool:
    return bool(_PARTIAL.fullmatch(path.name)) and time.time() - written > _STALE_SECONDS


def _why_not(one: Waste, inside: Path, origins: Mapping[str, Path]) -> str:
    """Why waste is left alone; empty where it can go."""
    if made := origins.get(one.path.name if one.later else "/".join(one.path.parts[-3:])):
        return f"{made} was made from its weights"
    if is_behind_a_link(one.path, inside):
        return "what could go lies behind a link: clean the directory that this leads to"
    return why_at_work(one.run) if one.run else ""


def is_behind_a_link(path: Path, inside: Path) -> bool:
    return path.is_symlink() or not path.parent.resolve().is_relative_to(inside)


def why_at_work(run: Path) -> str:
    """Who may be at work on a run, in words; empty for nobody."""
    if why := why_unreadable(run / CLAIM):
        return f"whose it is cannot be told: {run / CLAIM} cannot be read ({why})"
    owner = owner_of(run)
    try:
        signed = (run / CLAIM).stat().st_mtime
    except OSError:
        return ""
    if owner and owner.lives is not None:
        return f"{owner.name} is at work on the run" if owner.lives else ""
    if time.time() - signed > SILENT_SECONDS:
        return ""
    name = owner.name if owner else "a process"
    return (
        f"{name} had the run, and has given no sign of life since {datetime.fromtimestamp(signed):%Y-%m-%d %H:%M}; "
        "a day after that it is taken to be gone"
    )


def _remove_claimed(run: Path, several: Sequence[Waste], inside: Path, removal: Removal) -> None:
    """Remove the waste of one run, while nobody else can be at work on it."""
    why, stayed = why_at_work(run), list[tuple[Path, str]]()
    try:
        if not why and run.is_dir():
            with claimed_to_remove(run) as check:
                for one in several:
                    if reason := _removed(one, inside, removal, check):
                        stayed.append((one.path, reason))
            if (several[0].later and not stayed) or not any(run.iterdir()):
                run.rmdir()
    except HeldByAnotherError as owner:
        why = f"{owner} is at work on the run"
    except ClaimLostError as loss:
        why = str(loss)
    except OSError as error:
        why = reason_of(error)
    stayed = [(one.path, why) for one in several] if why else stayed
    removal.stayed += [(path, reason) for path, reason in stayed if os.path.lexists(path)]


class ClaimLostError(Exception):
    """This process was stopped for so long that another has followed it, or may have."""


@contextmanager
def claimed_to_remove(run: Path) -> Iterator[Callable[[], None]]:
    """Claim a run for the block. What it is given is to be called before anything is removed."""
    losses: list[str] = []

    def tell(sentence: str) -> None:
        print(f"backbench: {run}: {sentence} for a sign that it is alive", file=sys.stderr)

    def check() -> None:
        claim.check()
        if losses:
            raise ClaimLostError(losses[0])

    try:
        claim = Lease(run / CLAIM, tell=tell, lost=losses.append)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        yield _nothing_to_check  # nobody else can claim it either, until there is room
        return
    with claim:
        yield check


def _nothing_to_check() -> None:
    pass


def _removed(one: Waste, inside: Path, removal: Removal, check: Callable[[], None] = _nothing_to_check) -> str:
    """Remove one thing, if it still can go; why it could not, empty where it is gone."""
    reason = ""
    if not os.path.lexists(one.path):
        return reason
    if is_behind_a_link(one.path, inside) or not _is_still_waste(one):
        return "it has changed since it was found"
    try:
        if one.later:
            _empty(one.path, check)
        else:
            check()
            one.path.unlink(missing_ok=True)
    except OSError as error:
        reason = reason_of(error)
    finally:
        removal.freed += max(one.bytes - _size(one.path), 0)
    return reason


def _is_still_waste(one: Waste) -> bool:
    if one.later:
        return _is_superseded(one.path, one.later)
    if one.run and _CHECKPOINT.fullmatch(one.path.name):
        return one.path in _old_checkpoints(one.run)
    with suppress(OSError):
        return _is_stale(one.path, one.path.stat().st_mtime)
    return True


def _empty(directory: Path, check: Callable[[], None]) -> None:
    """Remove all that is in a run's directory but the claim; the record last, by which it is found if this ends early.

    What a link leads to stays.
    """
    for parent, folders, files in os.walk(directory, topdown=False):
        paths = [Path(parent, name) for name in (*folders, *files) if name != CLAIM]
        for path in sorted(paths, key=lambda path: (path.name == RECORD, path.name)):
            check()
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes of a file, or of the files below a directory; 0 for what is gone."""
    if path.is_dir():
        return sum(size for file, size, _ in files_of(path) if not file.name.startswith(CLAIM))
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def reason_of(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{place}"
