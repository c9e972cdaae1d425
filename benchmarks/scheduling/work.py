"""A suite process: it takes cell after cell, as long as there is one that nobody else has."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from benchmarks.launching import processes
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling import carrying
from benchmarks.scheduling.carrying import RETRIES, AtWork
from benchmarks.scheduling.folders import CellState, Job, SuiteFolder, jobs_of, with_others

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_LOOKS_AT_OTHERS = 2.0
"""At cells that other suite processes have."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Slot:
    """Room for one cell at a time, and the environment of its process: which GPUs, how many threads."""

    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class SuiteOutcome:
    """What a suite process has seen of its cells at its end, by cell.

    interrupted: whether it was stopped before all were done
    """

    states: dict[str, CellState] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def failed(self) -> list[str]:
        return [name for name, state in self.states.items() if state.outcome == "failed"]


def work_on(
    plan: SuitePlan,
    slots: Sequence[Slot] = (Slot(),),
    on_change: Callable[[Job, str, CellState | None], None] = lambda job, what, state: None,
) -> SuiteOutcome:
    """Carry a suite's cells out, or see that others do, until all have finished or failed.

    on_change: told of a cell that begins ("begins") and of one that has ended ("ended", with its state)

    Raises OSError where the store cannot be written.
    """
    folder = SuiteFolder(plan.out, plan.name)
    written = jobs_of(plan)
    folder.write(with_others(written, folder.read()) if plan.is_part else written)
    with _signals() as stopping:
        return _Work(folder, written.jobs, slots, on_change, stopping).until_done()


class _Work:
    def __init__(
        self,
        folder: SuiteFolder,
        jobs: Sequence[Job],
        slots: Sequence[Slot],
        on_change: Callable[[Job, str, CellState | None], None],
        stopping: threading.Event,
    ) -> None:
        self.folder, self.slots, self.on_change, self.stopping = folder, slots, on_change, stopping
        self.waiting = {job.name: job for job in jobs}
        self.at_work: list[AtWork] = []
        self.tries: dict[str, int] = {}
        self.outcome = SuiteOutcome()

    def until_done(self) -> SuiteOutcome:
        while self.waiting or self.at_work:
            if self.stopping.is_set():
                self._stop()
                break
            self._see_ends()
            self._begin_more()
            time.sleep(_SECONDS_BETWEEN_LOOKS if self.at_work else _SECONDS_BETWEEN_LOOKS_AT_OTHERS)
        return self.outcome

    def _see_ends(self) -> None:
        for work in [work for work in self.at_work if work.process.poll() is not None]:
            self.at_work.remove(work)
            state = carrying.end(work, was_stopped=False)
            name = work.job.name
            if work.is_worth_trying_again and self.tries.get(name, 0) < RETRIES:
                self.tries[name] = self.tries.get(name, 0) + 1
                self.waiting[name] = work.job
            else:
                self.outcome.states[name] = state
            self.on_change(work.job, "ended", state)

    def _begin_more(self) -> None:
        free = [slot for slot in range(len(self.slots)) if slot not in {work.slot for work in self.at_work}]
        for name, job in list(self.waiting.items()):
            if carrying.is_finished(job, self.folder):
                del self.waiting[name]
                self.outcome.states[name] = CellState(outcome="finished")
            elif self._cannot_begin(job):
                del self.waiting[name]
                self.outcome.states[name] = CellState(outcome="failed", reason=self._cannot_begin(job))
            elif free and (not job.needs or job.needs not in self.waiting):
                work = carrying.begin(job, self.folder, free[0], self.slots[free[0]].environment)
                if work:
                    free.pop(0)
                    del self.waiting[name]
                    self.at_work.append(work)
                    self.on_change(job, "begins", None)

    def _cannot_begin(self, job: Job) -> str:
        """Why a cell will not be carried out; empty where it can, or may yet."""
        if job.missing:
            return f"missing: {'; '.join(job.missing)}"
        if job.needs in self.outcome.failed:
            return f"{job.needs}, which makes its weights, has failed"
        return ""

    def _stop(self) -> None:
        self.outcome.interrupted = True
        for work in self.at_work:
            processes.stop(work.process)
        for work in self.at_work:
            work.process.wait()
            self.outcome.states[work.job.name] = carrying.end(work, was_stopped=True)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that is set by the first signal that asks this process to end; former handlers come back after it."""
    stopping = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    former = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
