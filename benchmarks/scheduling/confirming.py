"""Further seeds of cells that are suspicious, before a night alarms."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from benchmarks.launching import processes
from benchmarks.running.of_suite import SUITE
from benchmarks.scheduling.folders import Job, SuiteFolder, find_suites, with_weights_of
from results.regression.findings import CellName

FOLDER = "further-seeds"
"""In a suite's folder: the logs of such runs."""


@dataclass(frozen=True)
class FurtherRun:
    """A run of a suite's cell with another seed."""

    job: Job
    folder: SuiteFolder
    seed: int

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
    stores: Iterable[Path], suspicious: Sequence[tuple[CellName, Iterable[int]]], count: int
) -> list[FurtherRun]:
    """So many further runs of each suspicious cell, which comes with the seeds that it has had on both sides.

    Raises InputError for a cell that no suite of the stores has: a run by itself does not say how it was started.
    """
    jobs = [(job, folder) for folder in _suites(stores) if (plan := folder.read()) for job in plan.jobs]
    planned = []
    for cell, seeds in suspicious:
        found = [(job, folder) for job, folder in jobs if _is_of(job, cell)]
        if not found:
            raise InputError(f"--confirm: {cell}: no suite of --current has this cell, so it cannot be run again")
        job, folder = found[0]
        first = max([-1, *seeds]) + 1
        planned += [FurtherRun(job, folder, seed) for seed in range(first, first + count)]
    return planned


def carry_out(run: FurtherRun, on_begin: Callable[[FurtherRun], None] = lambda run: None) -> int:
    """Carry one out, and return its exit status; repeated, it goes on where it was. Ctrl-C lets it save and end."""
    on_begin(run)
    process = processes.start(run.arguments, run.log, {SUITE: run.folder.name})
    try:
        return process.wait()
    except KeyboardInterrupt:
        processes.stop(process)
        process.wait()
        raise


def _suites(stores: Iterable[Path]) -> Iterable[SuiteFolder]:
    for store in stores:
        if store.is_dir():
            nights = sorted(path for path in store.iterdir() if path.is_dir())
            yield from (folder for place in (store, *reversed(nights)) for folder in find_suites(place))


def _is_of(job: Job, cell: CellName) -> bool:
    return (job.task, job.backbone, job.recipe) == (cell.task, cell.backbone, cell.recipe)
