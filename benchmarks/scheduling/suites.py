"""A suite from its plan to its tables, for the command line and for Python."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.launching.slots import share_out
from benchmarks.planning.suites.looking import require_sound
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.ending import Ending, end_suite
from benchmarks.scheduling.folders import CellState, Job, SuiteFolder, now
from benchmarks.scheduling.judging import RETRIES
from benchmarks.scheduling.outcome import SuiteOutcome
from benchmarks.scheduling.status import CellStatus
from benchmarks.scheduling.work import Told, work_on
from results import Table


@dataclass(frozen=True)
class SuiteRun:
    """What a call has made of a suite.

    outcome: what it has seen of each cell, and why it has ended
    ending:  the suite as it is now, with earlier calls and other processes
    """

    outcome: SuiteOutcome
    ending: Ending

    @property
    def tables(self) -> Sequence[Table]:
        """The tables of all that has finished; `to_frame()` makes a DataFrame of one."""
        return self.ending.tables

    @property
    def cells(self) -> Sequence[CellStatus]:
        """Those of this call: `cell.state`, `cell.run` (the directory), `cell.reason`."""
        return self.ending.ours.cells

    @property
    def failed(self) -> list[str]:
        """The names of cells that have failed."""
        return list(dict.fromkeys([*self.outcome.failed, *(cell.job.name for cell in self.ending.failed)]))

    @property
    def unfinished(self) -> list[str]:
        """The names of cells that the same call would go on with."""
        return list(dict.fromkeys([*self.outcome.unfinished, *(cell.job.name for cell in self.ending.unfinished)]))


def run_suite(
    plan: SuitePlan,
    *,
    jobs: int | str | None = None,
    hours: float | None = None,
    retries: int = RETRIES,
    on_change: Told = lambda job, what, state: None,
    repeat: Callable[[Sequence[str]], str] = lambda cells: "",
) -> SuiteRun:
    """Carry a suite out, each cell in a process of its own, and lay out its tables. What has finished is not run again.

    jobs:      how many cells at a time, or "gpu" for one a GPU
    hours:     after which no cell begins, and those at work save what they have and end
    retries:   how often a cell is begun again that was killed, or is worth trying again
    on_change: told of a cell, what has happened to it ("begins", "ended", …), and its state
    repeat:    gives the command that carries out some of the cells again, for the summary

    A cell that fails is no error: see `SuiteRun.failed`. Raises InputError for data and weights that contradict the
    suite, and where there are not so many GPUs.
    """
    return carry_out(require_sound(plan), jobs=jobs, hours=hours, retries=retries, on_change=on_change, repeat=repeat)


def carry_out(
    plan: SuitePlan,
    *,
    jobs: int | str | None,
    hours: float | None,
    retries: int,
    on_change: Told,
    repeat: Callable[[Sequence[str]], str],
) -> SuiteRun:
    """Do as `run_suite` does, of a plan that has been looked at."""
    slots = share_out(None if jobs is None else str(jobs))
    begun: set[str] = set()

    def note(job: Job, what: str, state: CellState | None) -> None:
        if what == "begins":
            begun.add(job.name)
        on_change(job, what, state)

    since, began = now(), time.monotonic()
    outcome = work_on(plan, slots, note, hours=hours, retries=retries)
    ending = end_suite(
        SuiteFolder(plan.out, plan.name),
        [cell.name for cell in plan.cells],
        begun=begun,
        since=since,
        beside_others=plan.suite.is_of_candidate,
        wall_seconds=time.monotonic() - began,
        repeat=repeat,
    )
    return SuiteRun(outcome, ending)
