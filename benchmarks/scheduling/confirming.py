"""Further seeds of cells that are suspicious, before a night alarms."""

import itertools
import math
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from benchmarks.launching import processes
from benchmarks.launching.descendants import end_marked
from benchmarks.launching.slots import Slot, Slots, find_gpus, share_out, unlock
from benchmarks.running.inventory import finished_record
from benchmarks.running.of_suite import ATTEMPT, SUITE
from benchmarks.scheduling.folders import Job, SuiteFolder, find_suites, with_weights_of
from benchmarks.scheduling.judging import PASSING, signal_of
from benchmarks.scheduling.signals import Signals, listening
from results.regression.findings import CellName, Finding, Severity

FOLDER = "further-seeds"
"""In a suite's folder: the logs of such runs."""

_OVER = "the hours for further seeds were over"
_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class FurtherRun:
    """A run of a suite's cell with another seed. cell: by which its number is judged."""

    job: Job
    folder: SuiteFolder
    seed: int
    cell: CellName

    @property
    def arguments(self) -> list[str]:
        """Those of `backbench` that carry it out."""
        given = with_weights_of(self.job.arguments, self.job.needs, self.folder)
        place = given.index("--seed") + 1
        return [*given[:place], str(self.seed), *given[place + 1 :]]

    @property
    def log(self) -> Path:
        return self.folder.path / FOLDER / f"{self.job.name}-seed{self.seed}.txt"


def further_runs(
    stores: Iterable[Path], suspicious: Sequence[tuple[CellName, Iterable[int], Iterable[int]]], count: int
) -> list[FurtherRun]:
    """So many further runs of each suspicious cell, which comes with its seeds in the baseline and those of tonight.

    Seeds of tonight that no suite has planned are further ones that an earlier call has run, and count; those that
    failed then come again, and none in their place. Raises InputError for a cell that no suite of the stores has: a run
    by itself does not say how it was started.
    """
    jobs = [(job, folder) for folder in _suites(stores) if (plan := folder.read()) for job in plan.jobs]
    planned = []
    for cell, before, tonight in suspicious:
        alike = [(job, folder) for job, folder in jobs if _may_be_of(job, cell)]
        found = next(((job, folder) for job, folder in alike if _is_of(job, folder, cell)), None)
        if not found:
            raise InputError(f"--confirm: {cell}: no suite of --current has this cell, so it cannot be run again")
        of_suites, run = {job.seed for job, _ in alike}, {*tonight}
        others = (seed for seed in itertools.count(max([-1, *before, *of_suites]) + 1) if seed not in run)
        missing = max(count - len(run - of_suites), 0)
        planned += [FurtherRun(*found, seed, cell) for seed in itertools.islice(others, missing)]
    return planned


def carry_out(
    run: FurtherRun, on_begin: Callable[[FurtherRun], None] = lambda run: None, until: float = math.inf
) -> Finding | None:
    """Carry one out, on as many GPUs as the suite had for the cell; what keeps it from having a number, None if it has.

    GPUs that other suites have are waited for. Repeated, it goes on where it was. A signal to end lets it save; the
    second one kills it. Raises KeyboardInterrupt after either, OSError where its log cannot be written.

    until: on the clock of `time.monotonic`, when it does not begin any more, and is asked to save and end
    """
    slots = _slots_for(run)
    try:
        with listening() as signals, _free(slots, signals, until) as (slot, locks):
            on_begin(run)
            token = secrets.token_hex(8)
            environment = {SUITE: run.folder.name, ATTEMPT: token, **slot.environment}
            process = processes.start([*run.arguments, *slot.arguments], run.log, environment, locks=locks)
            status = _ended(process, signals, token, until)
    except TimeoutError:
        return Finding(run.cell, "unfinished", Severity.notice, f"seed {run.seed} was not begun: {_OVER}")
    if signals.asked:
        raise KeyboardInterrupt
    return _without_number(run, status, is_over=_is_over(until)) if status else None


def _without_number(run: FurtherRun, status: int, *, is_over: bool) -> Finding:
    """The finding of a run that has ended otherwise than well. What may go well another time is no regression."""
    log = f"(log: {run.log})"
    if is_over:
        return Finding(run.cell, "unfinished", Severity.notice, f"seed {run.seed} has not ended: {_OVER} {log}")
    number = signal_of(status)
    ended = f"with exit status {status}" if number is None else f"by signal {number}"
    if number is not None or status in PASSING:
        return Finding(run.cell, "unfinished", Severity.unclear, f"seed {run.seed} was ended {ended} {log}")
    return Finding(run.cell, "failed", Severity.regression, f"seed {run.seed} failed {ended} {log}")


def _slots_for(run: FurtherRun) -> Slots:
    directory, gpus = run.folder.cell(run.job.name).run, find_gpus()
    record = finished_record(directory) if directory else None
    each = record.world_size if record else 1
    if each > 1 and len(gpus) >= each:
        whole = len(gpus) // each
        return share_out(str(whole), gpus[: whole * each])
    return share_out(None, gpus)


@contextmanager
def _free(slots: Slots, signals: Signals, until: float) -> Iterator[tuple[Slot, tuple[int, ...]]]:
    """A slot whose GPUs no other suite has, and what locks them within the block. Raises TimeoutError after `until`."""
    while True:
        if _is_over(until):
            raise TimeoutError
        for slot in slots.slots:
            if (locks := slot.lock()) is not None:
                try:
                    yield slot, locks
                finally:
                    unlock(locks)
                return
        if signals.asked:
            raise KeyboardInterrupt
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _ended(process: subprocess.Popen[bytes], signals: Signals, token: str, until: float) -> int:
    """The exit status of a process, which is asked to save and end once this one is, or the time is over.

    Where this one is asked twice, all processes of that token are killed.
    """
    is_asked = False
    while True:
        try:
            return process.wait(_SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            if (signals.asked or _is_over(until)) and not is_asked:
                is_asked = True
                processes.stop(process)
            if signals.insisted:
                process.kill()
                end_marked(ATTEMPT, token)


def _is_over(until: float) -> bool:
    return time.monotonic() >= until


def _suites(stores: Iterable[Path]) -> Iterable[SuiteFolder]:
    for store in stores:
        if store.is_dir():
            nights = sorted(path for path in store.iterdir() if path.is_dir())
            yield from (folder for place in (store, *reversed(nights)) for folder in find_suites(place))


def _may_be_of(job: Job, cell: CellName) -> bool:
    return (job.task, job.backbone, job.recipe) == (cell.task, cell.backbone, cell.recipe)


def _is_of(job: Job, folder: SuiteFolder, cell: CellName) -> bool:
    """Whether it is the cell's by its run: methods share a backbone's name, and differ in the weights."""
    directory = folder.cell(job.name).run
    record = finished_record(directory) if directory else None
    named = (record.dataset, record.method, record.pretrain_data, record.model) if record else None
    return named == (cell.dataset, cell.method, cell.pretrain_data, cell.model)
