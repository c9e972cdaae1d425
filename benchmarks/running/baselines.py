"""A baseline: nights that others are held against, as files to be committed, and which of them count.

BASELINE/baseline.yaml
BASELINE/results.csv
BASELINE/<night>/<task>/<dataset>/<backbone>/seed<N>-<key>/{record.json, log.jsonl, recipe.yaml}

It is a store of pruned runs: all that reads a store reads it, too. Of each run it keeps what tells its number, its
course and its settings, and with images what `backbench regress` and `compare` test image by image.
"""

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError, TryAgainError, not_written
from backbones.training.writing import check_before_writing, checked_before_writing
from benchmarks.running.baseline_file import (
    BASELINE,
    BaselineFile,
    Entry,
    author,
    make_entry,
    read_baseline,
    write_baseline,
)
from benchmarks.running.claim import RECIPE
from benchmarks.running.collecting import RESULTS, collect, warn
from benchmarks.running.counting_nights import counting_after
from benchmarks.running.lease import HeldByAnotherError, Lease, find_owner
from benchmarks.running.trace import LOG
from benchmarks.running.writing import write_text
from results import Record, find_records, load_results, read_record
from results.metrics import PRIMARY
from results.nights import first_night, is_night, names_of
from results.record import Outline
from results.rereading import reread
from results.store import RECORD

if TYPE_CHECKING:
    import pandas as pd

KEPT = 14
"""Nights that count and stay, by default: two weeks."""

FILES = (RECORD, LOG, RECIPE)
IMAGES = ("per_image.csv", "areas.npz", "matches_AP_box.npz", "matches_AP_mask.npz")
"""What a run keeps, and what it keeps with images, by its name in the run's directory."""

_CLAIM = f".{BASELINE}.claim"
_PARTIAL = ".promoting-"
_LEFT = (f"{_PARTIAL}*", f".{BASELINE}.{'[0-9a-f]' * 12}")
"""What a process leaves that is killed while it changes a baseline, beside its claim."""

_IGNORING = ".gitignore"
_IGNORED = f"""\
# What a command that was killed leaves here, until the next one removes it.
/{_IGNORING}
/{_PARTIAL}*
/.{BASELINE}.*
/.{RESULTS}.*
"""

_PATIENCE = 120.0

Runs = Sequence[tuple[Path, Record]]


@dataclass(frozen=True)
class Promoted:
    """What has become of a baseline.

    runs:    that were copied, or given what they lacked
    is_new:  whether anything has changed
    dropped: nights that were removed, as too old
    """

    night: str
    runs: int
    counts: tuple[str, ...]
    pinned: bool
    is_new: bool = True
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class NightOf:
    """A night of a baseline. runs: finished ones; bytes: of all its files."""

    night: str
    counts: bool
    runs: int
    bytes: int


def promote(
    baseline: Path,
    store: Path,
    *,
    who: str = "",
    why: str = "",
    with_images: bool = False,
    keep: int = KEPT,
    fresh: bool = False,
) -> Promoted:
    """Add a night's finished runs to a baseline, which is made where there is none; the newest `keep` nights stay.

    So do those of the older ones without which a cell would have one seed alone, as `counting_after` has it.

    The night is the name of the store's folder, or of a link to it, where that is a date, else the day on which its
    last run finished. From then on it counts, and so do up to `keep` newest ones, unless others are pinned. A night
    that is there already gains the runs, or the files of images, that it lacks, and its promotion stands in the file
    again for another reason.

    fresh: nights before it count no longer, because behaviour was to change; takes a reason

    A promotion that is cut off leaves which nights count, and all their files, as they were. Raises InputError for a
    store without runs, or of several nights, for a night that is there with other numbers, that is older than all that
    stay, or that is of before the last fresh one; ResultsError where nothing can be written, and TryAgainError while
    another process changes the baseline, or has changed it while this one was stopped.
    """
    if fresh:
        _require_reason(why, "--fresh")
    runs = _runs_of(store, baseline)
    night = _name_of(store, runs)
    with _made(baseline), _changing(baseline) as turn:
        before = read_baseline(baseline, night) if (baseline / BASELINE).exists() else BaselineFile()
        entry = make_entry("promote", [night], who or author(baseline), why, origin=str(store), fresh=fresh)
        counts = counting_after(baseline, before, store, night, keep, fresh=fresh)
        after = before.changed(entry, counts, pinned=before.pinned)
        stay = _staying({*nights_of(baseline), night}, after, keep)
        if night not in stay:
            raise InputError(f"{store}: {night} is older than the {keep} newest nights of {baseline}. Raise --keep")
        _refuse_other_numbers(baseline / night, store, runs)
        copied = _copy(baseline, night, store, runs, (*FILES, *(IMAGES if with_images else ())))
        if not copied and _is_known(before, after, entry):
            return Promoted(night, 0, before.counts, before.pinned, is_new=False)
        collect(baseline)
        turn.write(after)
        dropped = _drop(baseline, stay)
        return Promoted(night, copied, after.counts, after.pinned, dropped=dropped)


def pin(baseline: Path, nights: Sequence[str], *, why: str, who: str = "") -> tuple[str, ...]:
    """Let these nights count, and no others, whatever is promoted, until `unpin`; those that count now.

    Raises InputError for a night that is not there, and without a reason.
    """
    _require_reason(why, "pin")
    read_baseline(baseline)
    with _changing(baseline) as turn:
        before, there = read_baseline(baseline), nights_of(baseline)
        for night in nights:
            if night not in there:
                raise InputError(f"{night}: no night of {baseline}. There are: {', '.join(there) or 'none'}")
        entry = make_entry("pin", sorted({*nights}), who or author(baseline), why)
        after = before.changed(entry, {*nights}, pinned=True)
        turn.write(after)
        return after.counts


def unpin(baseline: Path, *, who: str = "", why: str = "") -> tuple[str, ...]:
    """Let all nights count again that are there, from the last fresh one on; those that count now.

    Raises InputError where none is pinned.
    """
    read_baseline(baseline)
    with _changing(baseline) as turn:
        before = read_baseline(baseline)
        if not before.pinned:
            raise InputError(f"{baseline / BASELINE}: no nights are pinned. {', '.join(before.counts)} count anyway")
        entry = make_entry("unpin", before.counts, who or author(baseline), why)
        after = before.changed(entry, [n for n in nights_of(baseline) if n >= before.since], pinned=False)
        turn.write(after)
        return after.counts


def tidy(baseline: Path) -> None:
    """Remove what killed processes have left of a change, unless another is at work or nothing can be removed."""
    claim = baseline / _CLAIM
    if not claim.exists() and not _left_in(baseline):
        return
    owner = find_owner(claim)
    if owner is None or owner.lives is False:
        with suppress(HeldByAnotherError, OSError), Lease(claim):
            _remove_left(baseline)


def is_baseline(path: Path) -> bool:
    """Whether a folder is a baseline, and no other store."""
    return (path / BASELINE).is_file()


def counting(paths: Sequence[Path]) -> list[Path]:
    """The paths, of a baseline among them, or the table that lies in it, its nights that count.

    Raises InputError where a baseline has none, and as `counting_nights` does.
    """
    found: list[Path] = []
    for path in paths:
        folder = path.parent if path.name == RESULTS else path
        nights = counting_nights(folder) if is_baseline(folder) else (path,)
        if not nights:
            raise InputError(f"{path}: no night of this baseline counts. Promote one: backbench baseline promote")
        found += nights
    return found


def counting_nights(baseline: Path) -> tuple[Path, ...]:
    """The folders of the nights that count, oldest first. Raises InputError as `read_baseline` does."""
    return tuple(baseline / night for night in read_baseline(baseline).counts)


def counting_results(baseline: Path) -> "pd.DataFrame":
    """The rows of the nights that count, as `load_results` has them. Raises InputError as `read_baseline` does."""
    counts, frame = {*read_baseline(baseline).counts}, load_results(baseline)
    return frame[frame["directory"].str.partition("/")[0].isin(counts)].reset_index(drop=True)


def nights_of(baseline: Path) -> list[str]:
    """All nights that are there, whether they count or not, oldest first."""
    return sorted(path.name for path in baseline.iterdir() if is_night(path.name) and path.is_dir())


def describe_nights(baseline: Path) -> list[NightOf]:
    """All nights that are there, oldest first. Raises InputError as `read_baseline` does."""
    counts = {*read_baseline(baseline).counts}
    return [
        NightOf(night, night in counts, len(find_records([baseline / night], warn, Outline)), _bytes(baseline / night))
        for night in nights_of(baseline)
    ]


def _runs_of(store: Path, baseline: Path) -> Runs:
    if baseline.resolve().is_relative_to(store.resolve()) or store.resolve().is_relative_to(baseline.resolve()):
        raise InputError(
            f"{store} and {baseline}: one lies in the other. Promote a store that lies beside the baseline"
        )
    if (store / RECORD).is_file():
        raise InputError(f"{store}: a single run. Name the store, that was its --out")
    runs = find_records([store], warn, Outline)
    if not runs:
        raise InputError(f"{store}: no finished run. Promote the --out of runs that have finished")
    nights = sorted({first for directory, _ in runs if is_night(first := directory.relative_to(store).parts[0])})
    if nights:
        raise InputError(f"{store}: a folder of nights. Promote one after the other: {store / nights[0]}, …")
    return runs


def _name_of(store: Path, runs: Runs) -> str:
    return first_night(names_of(store), store) or f"{max(record.finished_at for _, record in runs):%Y-%m-%d}"


def _is_known(before: BaselineFile, after: BaselineFile, entry: Entry) -> bool:
    """Whether the file says already what another promotion of a night would make of it, for that reason if it has one.

    A night that is promoted every time a job is repeated stands there once, and no reason is dropped.
    """
    earlier = [one for one in before.entries if one.action == "promote" and one.nights == entry.nights]
    has_reason = not entry.why or any(one.why == entry.why for one in earlier)
    is_there = before.counts == after.counts and bool(earlier) and has_reason
    return is_there and (not entry.fresh or before.since == entry.nights[-1])


def _staying(nights: set[str], file: BaselineFile, keep: int) -> set[str]:
    return {*sorted(nights)[-keep:], *file.counts}


def _refuse_other_numbers(there: Path, store: Path, runs: Runs) -> None:
    for directory, record in runs:
        place = there / directory.relative_to(store)
        if (place / RECORD).is_file() and (other := read_record(place, Outline)).metrics != record.metrics:
            before, now = (_number(one) for one in (other, record))
            raise InputError(
                f"{there}: there already with other numbers: {place.relative_to(there)} has {before}, and in {store} "
                f"{now}. A night is promoted once; to take this one in its place, remove the folder first"
            )


def _number(record: Record) -> str:
    ranked = sorted(record.metrics, key=lambda one: PRIMARY.index(one.name) if one.name in PRIMARY else len(PRIMARY))
    return f"{ranked[0].name} {ranked[0].value}"


def _copy(baseline: Path, night: str, store: Path, runs: Runs, names: Sequence[str]) -> int:
    """Copy what the night lacks, all of a new one at once, and of one that is there run by run; how many runs."""
    partial = baseline / f"{_PARTIAL}{secrets.token_hex(6)}"
    copied = []
    try:
        for directory, _ in runs:
            place = directory.relative_to(store)
            lacking = [name for name in names if (directory / name).is_file()]
            lacking = [name for name in lacking if not (baseline / night / place / name).exists()]
            if lacking:
                (partial / place).mkdir(parents=True)
                copied.append(place)
            for name in lacking:
                shutil.copyfile(directory / name, partial / place / name)
        check_before_writing()
        if copied and not (baseline / night).exists():
            partial.rename(baseline / night)
        for place in copied if partial.exists() else ():
            _add(partial / place, baseline / night / place)
    except OSError as error:
        check_before_writing()  # who has followed removes what is copied
        reason = f"{baseline}: {night} cannot be added: {error.filename or partial}: {error.strerror or error}"
        raise not_written(f"{reason}. What counted before counts as it did", error.errno) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(copied)


def _add(run: Path, place: Path) -> None:
    """Put a copied run, or the files that it lacked, to its place."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        run.rename(place)
        return
    for path in run.iterdir():
        path.replace(place / path.name)


def _drop(baseline: Path, stay: set[str]) -> tuple[str, ...]:
    """Remove the nights that are too old."""
    old = [night for night in nights_of(baseline) if night not in stay]
    try:
        for path in (baseline / night for night in old):
            check_before_writing()
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)
    except OSError as error:
        raise not_written(f"{error.filename}: cannot be removed: {error.strerror}", error.errno) from error
    if old:
        collect(baseline)
    return tuple(old)


@contextmanager
def _made(baseline: Path) -> Iterator[None]:
    """Make the folder where there is none; it goes again if nothing comes of it."""
    is_new = not baseline.exists()
    try:
        baseline.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise not_written(f"{baseline}: cannot be made: {error.strerror or error}", error.errno) from error
    finally:
        if is_new and [path.name for path in baseline.glob("*")] == [_IGNORING]:
            with suppress(OSError):
                (baseline / _IGNORING).unlink()
                baseline.rmdir()


class _Turn:
    """A process's turn to change a baseline. One that was stopped for long is followed, and may come back."""

    def __init__(self, baseline: Path, lease: Lease) -> None:
        self.baseline, self.lease = baseline, lease
        self.known = self._entries()

    def write(self, file: BaselineFile) -> None:
        """Write baseline.yaml, as `write_baseline` does."""
        write_baseline(self.baseline, file)
        self.known = self._entries()

    def check(self) -> None:
        """Raise TryAgainError where another process has followed, also if it has ended and the claim is back."""
        if not self.lease.is_held() or self._entries() != self.known:
            raise TryAgainError(
                f"{self.baseline}: this process was stopped for long, and another has changed it meanwhile. Repeat the "
                "command"
            )

    def _entries(self) -> bytes:
        path = self.baseline / BASELINE
        return reread(path.read_bytes) if path.exists() else b""


@contextmanager
def _changing(baseline: Path) -> Iterator[_Turn]:
    """Within the block this process alone changes the baseline; what a killed one left is removed before.

    Git sees nothing of what is there meanwhile: the file that tells it so is out of its sight as well.
    """
    try:
        if not (baseline / _IGNORING).exists():
            write_text(baseline / _IGNORING, _IGNORED)
        with Lease(baseline / _CLAIM, patience=_PATIENCE) as lease:
            _remove_left(baseline)
            turn = _Turn(baseline, lease)
            with checked_before_writing(turn.check):
                yield turn
    except HeldByAnotherError as owner:
        raise TryAgainError(f"{baseline}: {owner} is changing it. Repeat the command once that has ended") from None
    except OSError as error:
        message = f"{baseline}: cannot be changed: {error.filename or baseline}: {error.strerror or error}"
        raise not_written(message, error.errno) from error


def _left_in(baseline: Path) -> list[Path]:
    return [path for pattern in _LEFT for path in baseline.glob(pattern)]


def _remove_left(baseline: Path) -> None:
    for path in _left_in(baseline):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _require_reason(why: str, what: str) -> None:
    if not why.strip():
        raise InputError(f"{what} takes a reason, which stands in {BASELINE}: --why WORDS")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
