"""How far the suites of a store are, read from their folders and runs alone, without writing anything.

Whether a cell is finished is what the record in its run's directory says; how far it is, the end of that run's log; who
is at work on it, its lease. What is damaged or half copied is told as such, cell by cell.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Literal, TypeAlias

from backbones.errors import TryAgainError
from benchmarks.launching import slurm
from benchmarks.running.claim import CLAIM
from benchmarks.running.inventory import SUITES
from benchmarks.running.lease import Owner, find_owner
from benchmarks.running.of_suite import RUN
from benchmarks.scheduling.answering import answers
from benchmarks.scheduling.folders import PLAN, CellFolder, CellState, Job, SuiteFolder
from benchmarks.scheduling.progress import Progress, Result, read_progress, read_result
from results.errors import ResultsError, StoreError
from results.store import RECORD

State: TypeAlias = Literal[
    "finished", "at work", "unfinished", "stopped", "failed", "damaged", "queued", "waiting", "missing", "to do"
]

STATES: Mapping[State, str] = {
    "finished": "its run has a record, of the settings that the suite has now",
    "at work": "a process has it, and lives",
    "unfinished": "begun, and nobody is at work on it; the suite's command goes on with it",
    "stopped": "the same, of a suite that was asked to stop",
    "failed": "its process ended with an error, or the cell that makes its weights did",
    "damaged": "what the store has of it cannot be read",
    "queued": "submitted to Slurm, and not begun, or put back into its queue",
    "waiting": "for the cell that makes its weights",
    "missing": "data or weights that it takes are not there",
    "to do": "not begun",
}
"""The states of a cell, and what each means."""

OPEN: frozenset[State] = frozenset({"at work", "unfinished", "stopped", "queued", "waiting", "to do"})
"""States of cells that are yet to be finished by the suite's command, as it is."""

_AT_ONCE = 8
"""Cells that are read at the same time: file servers answer several as fast as one."""


@dataclass(frozen=True)
class CellStatus:
    """A cell, and what is to be seen of it.

    reason:    why it failed, what is damaged or missing, or what it waits for
    owner:     who is, or was, at work on it
    began:     its last attempt
    typically: how many seconds such cells take; None where none has finished, nor has a speed
    """

    job: Job
    state: State
    log: Path
    run: Path | None = None
    reason: str = ""
    owner: str = ""
    progress: Progress | None = None
    result: Result | None = None
    slurm_job: str = ""
    attempts: tuple[tuple[datetime, datetime | None], ...] = ()
    typically: float | None = None

    @property
    def seconds(self) -> float:
        """That it has taken until now."""
        return self.result.seconds if self.result else self.progress.seconds if self.progress else 0.0

    def seconds_of_attempts(self, since: datetime | None = None) -> float:
        """Of the attempts that have ended, those that began since then, from each one's beginning to its end."""
        spans = (ended - began for began, ended in self.attempts if ended and (since is None or began >= since))
        return sum((max(span, timedelta()) for span in spans), timedelta()).total_seconds()

    @property
    def processes(self) -> int:
        """How many it is, or was, carried out by; 1 where that is not known."""
        told = self.result or self.progress
        return told.processes if told else 1

    @property
    def on_gpu(self) -> bool:
        told = self.result or self.progress
        return told is not None and told.on_gpu

    @property
    def seconds_left(self) -> float | None:
        """By its own speed, else by what such cells take; None where neither is known, and of what is not open."""
        if self.state not in OPEN:
            return None
        if self.progress and self.progress.seconds_left is not None:
            return self.progress.seconds_left
        return None if self.typically is None else max(self.typically - self.seconds, 0.0)


def device_hours(cells: Iterable[CellStatus], *, on_gpu: bool) -> float:
    """What those of the cells have taken that are on a GPU, or that are not: processes times hours.

    Of each that is what its run took, or its attempts from beginning to end where that is longer. A run that several
    cells have, of one suite or of several, is counted once.
    """
    of_run: dict[Path, list[CellStatus]] = {}
    for cell in cells:
        if cell.on_gpu == on_gpu:
            of_run.setdefault(cell.run or cell.log, []).append(cell)
    return (
        sum(
            same[0].processes * max(same[0].seconds, sum(cell.seconds_of_attempts() for cell in same))
            for same in of_run.values()
        )
        / 3600
    )


@dataclass(frozen=True)
class SuiteStatus:
    """A suite of a store. fault: why its plan cannot be read; empty where it can."""

    name: str
    path: Path
    about: str = ""
    cells: tuple[CellStatus, ...] = ()
    fault: str = ""

    @property
    def counts(self) -> dict[State, int]:
        """How many cells are in each state, of those states that there are, in the order of `STATES`."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES if found[state]}

    def of(self, *states: State) -> list[CellStatus]:
        return [cell for cell in self.cells if cell.state in states]

    @property
    def gpu_hours(self) -> float:
        """Of all cells until now: GPUs times hours."""
        return device_hours(self.cells, on_gpu=True)

    @property
    def cpu_hours(self) -> float:
        """The same of cells without a GPU: processes times hours."""
        return device_hours(self.cells, on_gpu=False)

    @property
    def seconds_left(self) -> float | None:
        """Until all is done by as many at once as are at work now; None where nobody is, or a cell's is not known."""
        at_work = self.of("at work")
        left = [cell.seconds_left for cell in self.cells if cell.state in OPEN]
        known = [seconds for seconds in left if seconds is not None]
        if not at_work or len(known) < len(left):
            return None
        return max(sum(known) / len(at_work), *(cell.seconds_left or 0.0 for cell in at_work))

    @property
    def seconds_at_work(self) -> float:
        """How long at least one of its cells was being carried out, as far as their ends were seen."""
        spans = sorted((began, ended) for cell in self.cells for began, ended in cell.attempts if ended)
        total, until = 0.0, None
        for began, ended in spans:
            begin = began if until is None else max(began, until)
            total += max((ended - begin).total_seconds(), 0.0)
            until = ended if until is None else max(until, ended)
        return total


@dataclass
class Reader:
    """Reads the suites of a store, again and again; what does not change any more is read once."""

    out: Path
    results: dict[Path, tuple[tuple[int, int], Result]] = field(default_factory=dict)

    def read_all(self) -> list[SuiteStatus]:
        """All suites of the store, by name, those without a plan too. Raises StoreError if there is no such store."""
        if not self.out.is_dir():
            raise StoreError(f"{self.out}: no such directory. Expected one that holds suites, the --out of `suite`")
        try:
            names = sorted(path.name for path in (self.out / SUITES).iterdir() if path.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.out / SUITES}: cannot be read: {error.strerror}") from None
        return [self.read(SuiteFolder(self.out, name)) for name in names]

    def read(self, folder: SuiteFolder, only: Iterable[str] | None = None) -> SuiteStatus:
        """One suite, or the cells of it that are named."""
        try:
            plan = folder.read()
        except ResultsError as error:
            return SuiteStatus(folder.name, folder.path, fault=_one_line(error))
        if plan is None:
            return SuiteStatus(
                folder.name,
                folder.path,
                fault=f"{folder.path}: has no {PLAN}. Repeat the suite's command, or copy it whole",
            )
        wanted, by_name = None if only is None else {*only}, plan.by_name
        jobs = [job for job in plan.jobs if wanted is None or job.name in wanted]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            cells = _as_slurm_says(list(pool.map(lambda job: self._cell(job, folder, by_name.get(job.needs)), jobs)))
        return SuiteStatus(folder.name, folder.path, plan.about, tuple(_with_waits(_with_speeds(cells))))

    def _cell(self, job: Job, suite: SuiteFolder, needed: Job | None) -> CellStatus:
        folder = suite.cell(job.name)
        cell = CellStatus(job, "to do", folder.log, _run_of(folder))
        try:
            result = self._result(cell.run) if cell.run else None
        except (OSError, ValueError) as error:
            remedy = "Remove it and repeat the suite's command"
            told = f"{cell.run}/{RECORD}: cannot be read: {_one_line(error)}. {remedy}"
            return replace(cell, state="damaged", reason=told)
        state, fault = _state_of(folder)
        cell = replace(cell, attempts=tuple((attempt.began, attempt.ended) for attempt in state.attempts))
        if result and not self._answers(job, result, state, suite, needed):  # it is of the suite as it was once
            cell, result = replace(cell, run=None), None
            state = CellState() if state.outcome == "finished" else state
        if result and not _is_of_earlier(result.written, state):
            return replace(cell, state="finished", result=result)
        owner = _owner(folder, cell.run)
        if result and not (owner and owner.lives) and state.outcome is None:
            return replace(cell, state="finished", result=result)
        if cell.run and not result:
            cell = replace(cell, progress=read_progress(cell.run))
        if fault and not (owner and owner.lives):
            return replace(cell, state="damaged", reason=fault)
        return _of_unfinished(cell, state, owner)

    def _answers(self, job: Job, result: Result, state: CellState, suite: SuiteFolder, needed: Job | None) -> bool:
        """Whether a cell's record is of the suite as it is now, and so is that of the run that made its weights."""
        made = None
        if needed:
            folder = suite.cell(needed.name)
            run = _run_of(folder)
            try:
                made = self._result(run) if run else None
            except (OSError, ValueError):
                return False
            if made is None or not self._answers(needed, made, _state_of(folder)[0], suite, None):
                return False
        return answers(job, result, made, was_accepted=state.outcome == "finished")

    def _result(self, run: Path) -> Result | None:
        """Raises OSError or ValueError for a record that cannot be read."""
        try:
            status = (run / RECORD).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        if self.results.get(run, ((0, 0),))[0] != stamp:
            self.results[run] = stamp, replace(read_result(run), written=status.st_mtime)
        return self.results[run][1]


def _state_of(folder: CellFolder) -> tuple[CellState, str]:
    """A cell's state, and why it cannot be read, if so."""
    try:
        return folder.read(), ""
    except ResultsError as error:
        return CellState(), _one_line(error)


def _is_of_earlier(written: float, state: CellState) -> bool:
    """Whether a record was there before the last attempt, which did not come to an end for which it stands: where
    the data have changed, a cell is run anew."""
    return state.outcome != "finished" and bool(state.attempts) and written < state.attempts[-1].began.timestamp()


def _of_unfinished(cell: CellStatus, state: CellState, owner: Owner | None) -> CellStatus:
    """The cell, with what is known of it where it has no record."""
    cell = replace(cell, owner=owner.name if owner else "", slurm_job=state.job)
    if owner and owner.lives:
        return replace(cell, state="at work")
    if state.outcome == "failed":
        return replace(cell, state="failed", reason=state.reason)
    if state.outcome == "stopped":
        return replace(cell, state="stopped")
    if state.outcome == "finished":
        return replace(cell, state="damaged", reason=f"it finished, and {cell.run or 'its run'} has no record any more")
    if owner:
        gone = "is gone" if owner.lives is False else "has given no sign of life for two minutes"
        return replace(cell, state="unfinished", reason=f"{owner.name} had it, and {gone}")
    if cell.job.missing:
        return replace(cell, state="missing", reason="; ".join(cell.job.missing))
    if state.job:
        return replace(cell, state="queued", reason=f"Slurm job {state.job}")
    return replace(cell, state="unfinished" if state.attempts or cell.progress else "to do")


def _as_slurm_says(cells: list[CellStatus]) -> list[CellStatus]:
    """The cells, those whose jobs wait in Slurm's queue or have left it as such, where this machine can ask it."""
    asked = [cell.slurm_job for cell in cells if cell.slurm_job and cell.state in ("queued", "unfinished", "stopped")]
    if not asked or not slurm.has_queue():
        return cells
    try:
        queued = slurm.find_queued(asked)
    except TryAgainError:
        return cells
    return [_as_queued(cell, queued) if cell.slurm_job in asked else cell for cell in cells]


def _as_queued(cell: CellStatus, queued: Mapping[str, str]) -> CellStatus:
    job = f"Slurm job {cell.slurm_job}"
    if cell.slurm_job in queued:
        return replace(cell, state="queued", reason=f"{job}, {queued[cell.slurm_job].lower()}")
    if cell.state != "queued":
        return cell
    return replace(cell, state="unfinished", reason=f"{job} is gone; the suite's command submits another")


def _with_speeds(cells: Sequence[CellStatus]) -> list[CellStatus]:
    """The cells, with what those of the same recipe and model have taken, or are to take by their speed until now."""
    taken, expected = dict[tuple[str, ...], list[float]](), dict[tuple[str, ...], list[float]]()
    for cell in cells:
        if cell.result and cell.result.seconds:
            taken.setdefault(_kind(cell.job), []).append(cell.result.seconds)
        elif cell.state == "at work" and cell.progress and cell.progress.seconds_left is not None:
            expected.setdefault(_kind(cell.job), []).append(cell.progress.seconds + cell.progress.seconds_left)
    typical = {kind: median(seconds) for kind, seconds in (expected | taken).items()}
    return [replace(cell, typically=typical.get(_kind(cell.job))) if cell.state in OPEN else cell for cell in cells]


def _kind(job: Job) -> tuple[str, ...]:
    return job.task, job.dataset, job.recipe, job.column


def _with_waits(cells: Sequence[CellStatus]) -> list[CellStatus]:
    """The cells, of which those that wait for another, or wait in vain, say so."""
    by_name = {cell.job.name: cell for cell in cells}
    return [_waiting(cell, by_name.get(cell.job.needs)) for cell in cells]


def _waiting(cell: CellStatus, needed: CellStatus | None) -> CellStatus:
    if needed is None or needed.state == "finished" or cell.state not in ("to do", "unfinished", "stopped"):
        return cell
    name = needed.job.name
    if needed.state in OPEN:
        return replace(cell, state="waiting", reason=f"for {name}") if cell.state == "to do" else cell
    if needed.state == "missing":
        return replace(cell, state="missing", reason=f"{name}, which makes its weights, lacks {needed.reason}")
    return replace(cell, state="failed", reason=f"{name}, which makes its weights, is {needed.state}")


def _run_of(folder: CellFolder) -> Path | None:
    """The directory of its run; None where it has none, or what should tell that is damaged."""
    try:
        told = (folder.path / RUN).read_text(encoding="utf-8", errors="surrogateescape").partition("\n")[0]
    except (OSError, ValueError):
        return None
    path = PurePosixPath(told)
    if not told or not told.isprintable() or path.is_absolute() or ".." in path.parts:
        return None
    return folder.out / path


def _owner(folder: CellFolder, run: Path | None) -> Owner | None:
    """Who has the cell, or its run: a run outlives the suite process that began it. A living one before others."""
    first = None
    for lease in (folder.owner, folder.process, *([run / CLAIM] if run else [])):
        owner = find_owner(lease, writes=False)
        if owner and owner.lives:
            return owner
        first = first or owner
    return first


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
