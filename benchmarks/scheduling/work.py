"""A suite process: it takes cell after cell, as long as there is one that nobody else has."""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from backbones.errors import NO_ROOM, TryAgainError
from benchmarks.launching import processes
from benchmarks.launching.slots import ONE_AT_A_TIME, Slots, unlock
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.running.lease import Lease, Watch
from benchmarks.scheduling import carrying
from benchmarks.scheduling.answering import has_changed
from benchmarks.scheduling.carrying import AtWork
from benchmarks.scheduling.claims import Claiming
from benchmarks.scheduling.finished import find_finished, is_finished, is_told, settle
from benchmarks.scheduling.folders import CellFolder, CellState, Job, SuiteFolder, write_plan
from benchmarks.scheduling.judging import RETRIES, Verdict, pause_before
from benchmarks.scheduling.outcome import SuiteOutcome
from benchmarks.scheduling.signals import Signals, listening
from results.errors import StoreError

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_LOOKS_AT_OTHERS = 2.0
"""At a cell that another process has."""

_LOOKS_AT_OTHERS = 5.0
"""A second, at most, at cells that processes elsewhere have: a file server answers every suite process."""

_LONGEST_PAUSE = 30.0
"""Seconds between looks at a cell, however many they are."""

_SECONDS_TO_CLAIM = 1.0
"""In which a claim that nobody has is taken."""

SECONDS_TO_SAVE = 60.0
"""After which it is told which cells are still saving what they have."""

CHANGED = "the suite has been changed by another process"

Told = Callable[[Job, str, CellState | None], None]


def work_on(
    plan: SuitePlan,
    slots: Slots = ONE_AT_A_TIME,
    on_change: Told = lambda job, what, state: None,
    *,
    hours: float | None = None,
    retries: int = RETRIES,
) -> SuiteOutcome:
    """Carry a suite's cells out, or see that others do, until all have finished or failed.

    on_change: told of a cell that "begins", is tried "again", has "ended", each time with its state, and of one that
               "waits": then the state's reason says for whom
    hours:     after which no cell begins, and those at work are asked to save
    retries:   how often a cell is begun again whose process was killed, or says that it is worth trying again

    Raises OSError where the store cannot be written.
    """
    with listening() as signals:
        return _Work(plan, slots, on_change, signals, hours, retries).until_done()


@dataclass
class _Waiting:
    """A cell that is neither at work here nor done.

    tries:      that have failed
    not_before: when to look at it again
    claim:      on it, once this process has that
    claiming:   finds out whether it can be had
    owner:      who else has that
    waits_for:  who is at work on it
    saw_worker: whether that was a process, which has since ended or gives no sign any more
    """

    cell: SuiteCell
    job: Job
    owner: Watch
    tries: int = 0
    not_before: float = 0.0
    claim: Lease | None = None
    claiming: Claiming | None = None
    waits_for: str = ""
    saw_worker: bool = False


class _Work:
    def __init__(
        self, plan: SuitePlan, slots: Slots, on_change: Told, signals: Signals, hours: float | None, retries: int
    ) -> None:
        self.folder = SuiteFolder(plan.out, plan.name)
        self.slots, self.on_change, self.signals, self.retries = slots, on_change, signals, retries
        self.until = None if hours is None else time.monotonic() + 3600 * hours
        written = write_plan(self.folder, plan)
        self.began_ns = self.folder.plan.stat().st_mtime_ns  # by the file server's clock, as those of states
        self.cells = {cell.name: cell for cell in plan.cells}
        self.jobs = written.by_name
        self.plan_seen: tuple[int, Mapping[str, Job]] = (0, {})
        self.waiting = {
            job.name: _Waiting(self.cells[job.name], job, Watch(self.folder.cell(job.name).owner))
            for job in written.jobs
        }
        self.at_work: list[tuple[AtWork, _Waiting]] = []
        self.outcome = SuiteOutcome()
        self.gpus_seen = 0.0

    def until_done(self) -> SuiteOutcome:
        try:
            self._find_finished()
            while (self.waiting or self.at_work) and not self._is_to_stop():
                self._see_ends()
                if self.outcome.no_room and not self.at_work:
                    break
                self._begin_more()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except OSError as error:
            self._stop("the suite's process could not go on")
            if error.errno not in NO_ROOM:
                raise
            self.outcome.no_room = self.outcome.no_room or f"{error.filename or self.folder.path}: {error.strerror}"
        except BaseException:
            self._stop("the suite's process could not go on")
            raise
        else:
            self._stop(self._why_stopped())
        for name in self.outcome.failed:
            if is_finished(self.cells[name], self.folder):  # another process has tried it again
                self.outcome.states[name] = CellState(outcome="finished")
        left = (name for name in self.cells if name not in self.outcome.failed)
        self.outcome.unfinished = [name for name in left if not self._has_finished(name)]
        return self.outcome

    def _has_finished(self, name: str) -> bool:
        return name in self.outcome.states and self.outcome.states[name].outcome == "finished"

    def _is_to_stop(self) -> bool:
        self.outcome.interrupted = self.signals.asked
        self.outcome.over_budget = self.until is not None and time.monotonic() >= self.until
        return self.outcome.interrupted or self.outcome.over_budget

    def _why_stopped(self) -> str:
        return "interrupted" if self.outcome.interrupted else "the hours of the suite were over"

    def _find_finished(self) -> None:
        for one in list(self.waiting.values()):
            if self.signals.asked:
                return
            if one.job.needs in self.waiting:
                continue
            run = find_finished(one.cell, self.folder)
            if run and is_told(one.cell, self.folder, run):
                state = carrying.read_state(self.folder.cell(one.job.name))
                if state.outcome == "finished" or not state.attempts:
                    self._leave(one, state.model_copy(update={"outcome": "finished"}), tells=False)

    def _see_ends(self) -> None:
        for work, one in [pair for pair in self.at_work if pair[0].process.poll() is not None]:
            self.at_work.remove((work, one))
            self.waiting[one.job.name], one.claim = one, work.claim
            self._settle(one, work.judge(self.retries), work.process.returncode)

    def _settle(self, one: _Waiting, verdict: Verdict | None, status: int | None) -> None:
        """Decide what comes of a cell at which no process of ours is at work any more; its claim is this process's."""
        cell = self.folder.cell(one.job.name)
        assert one.claim is not None
        if verdict is None:
            self._leave(one, carrying.write_outcome(cell, one.claim, "finished", status=status))
        elif not one.claim.is_held():  # this process was stopped for long; another has the cell
            one.claim, one.not_before = None, 0.0
        elif verdict.no_room:
            self.outcome.no_room = verdict.reason.partition(". Make room")[0]
            self._leave(one, carrying.write_outcome(cell, one.claim, "stopped", verdict.reason, status=status))
        elif status == TryAgainError.status and (worker := carrying.find_worker(cell)):
            carrying.write_outcome(cell, one.claim, None, f"waits for {worker}", status=status)
            self._wait(one, worker, is_worker=True)
        elif one.tries < verdict.retries:
            one.tries += 1
            pause = pause_before(one.tries)
            one.not_before = time.monotonic() + pause
            reason = f"{verdict.reason}. Tried again in {pause:.0f} s"
            self._tell(one.job, "again", carrying.write_outcome(cell, one.claim, None, reason, status=status))
        else:
            self._leave(one, carrying.write_outcome(cell, one.claim, "failed", verdict.reason, status=status))

    def _leave(self, one: _Waiting, state: CellState, *, tells: bool = True) -> None:
        """Have done with a cell."""
        self.waiting.pop(one.job.name, None)
        self.outcome.states[one.job.name] = state
        self._release(one)
        if tells:
            self._tell(one.job, "ended", state)

    def _release(self, one: _Waiting) -> None:
        if one.claim:
            one.claim.release()
        if one.claiming:
            one.claiming.give_up()
        one.claim = one.claiming = None

    def _begin_more(self) -> None:
        if self.outcome.no_room or time.monotonic() < self.gpus_seen:
            return
        found = self._free_slot()
        try:
            for one in list(self.waiting.values()):
                if found is None or self.signals.asked:
                    break
                if time.monotonic() >= one.not_before and self._may_begin(one):
                    self._begin(one, *found)
                    unlock(found[1])
                    found = self._free_slot()
        finally:
            if found:
                unlock(found[1])

    def _free_slot(self) -> tuple[int, tuple[int, ...]] | None:
        """A slot in which nothing is at work, here or by others, and what locks its GPUs."""
        if len(self.at_work) >= self.slots.at_once:
            return None
        taken = {work.slot for work, _ in self.at_work}
        for number, slot in enumerate(self.slots.slots):
            locks = None if number in taken else slot.lock()
            if locks is not None:
                return number, locks
        self.gpus_seen = time.monotonic() + SECONDS_BETWEEN_LOOKS_AT_OTHERS
        if not self.at_work:
            self._wait(next(iter(self.waiting.values())), "a GPU: other suites have them all")
        return None

    def _begin(self, one: _Waiting, slot: int, locks: tuple[int, ...]) -> None:
        assert one.claim is not None
        work = carrying.begin(one.job, self.folder, one.claim, self.slots.slots, slot, locks)
        del self.waiting[one.job.name]
        one.claim, one.waits_for = None, ""
        self.at_work.append((work, one))
        self._tell(one.job, "begins", carrying.read_state(work.cell))

    def _may_begin(self, one: _Waiting) -> bool:
        """Whether a cell is to begin now: unfinished, nobody else's, and what it needs is there."""
        if one.job.needs in self._names_not_done() or self._is_anothers(one):
            return False
        if (one.claim is None and self._is_done(one)) or not self._has_claim(one) or self._is_done(one):
            return False
        if has_changed(one.job, self.jobs, self._jobs_now()):  # whoever has changed it may have finished it since
            self.outcome.changed.append(one.job.name)
            self._leave(one, CellState(outcome="stopped", reason=CHANGED), tells=False)
            return False
        cell = self.folder.cell(one.job.name)
        if worker := carrying.find_worker(cell):
            self._wait(one, worker, is_worker=True)
            return False
        if one.saw_worker:
            one.saw_worker = False
            if verdict := carrying.judge_left(cell, self.retries):
                self._settle(one, verdict, None)
                return False
        carrying.forget_silent_process(cell)
        return True

    def _is_anothers(self, one: _Waiting) -> bool:
        """Whether another has a cell's claim, and is to say what comes of it, or that is being found out."""
        if one.claiming:
            return not one.claiming.is_over(0.0)
        if one.claim or not one.owner.has_living_owner():
            return False
        others = sum(bool(each.waits_for) for each in self.waiting.values())
        self._wait(one, one.owner.holder, 0.0 if one.owner.is_here else min(others / _LOOKS_AT_OTHERS, _LONGEST_PAUSE))
        return True

    def _jobs_now(self) -> Mapping[str, Job]:
        """The suite's cells as the process that began last has planned them; none where that cannot be read."""
        with suppress(FileNotFoundError, StoreError):
            stamp = self.folder.plan.stat().st_mtime_ns
            if stamp != self.plan_seen[0]:
                plan = self.folder.read()
                self.plan_seen = stamp, plan.by_name if plan else {}
        return self.plan_seen[1]

    def _names_not_done(self) -> set[str]:
        return {*self.waiting, *(work.job.name for work, _ in self.at_work)}

    def _is_done(self, one: _Waiting) -> bool:
        """Whether a cell has finished or failed, or cannot be carried out; it is left then."""
        cell, reason = self.folder.cell(one.job.name), ""
        if run := find_finished(one.cell, self.folder):
            state = carrying.read_state(cell)
            is_settled = state.outcome == "finished" and is_told(one.cell, self.folder, run)
            if not is_settled and one.claim is None:
                return False  # whoever has the claim writes that down
            if not is_settled and one.claim:
                settle(one.cell, self.folder, run)
                state = carrying.write_outcome(cell, one.claim, "finished")
            self._leave(one, state)
            return True
        if one.job.missing:
            reason = f"missing: {'; '.join(one.job.missing)}"
        elif one.job.needs in self.outcome.failed:
            reason = f"{one.job.needs}, which makes its weights, has failed"
        elif one.tries == 0 and self._failed_elsewhere(cell):
            reason = carrying.read_state(cell).reason
        if reason:
            self._leave(one, CellState(outcome="failed", reason=reason))
        return bool(reason)

    def _failed_elsewhere(self, cell: CellFolder) -> bool:
        """Whether another process of the suite has seen it fail since this one began."""
        try:
            return cell.state.stat().st_mtime_ns > self.began_ns and carrying.read_state(cell).outcome == "failed"
        except FileNotFoundError:
            return False

    def _has_claim(self, one: _Waiting) -> bool:
        """Whether this process has a cell's claim, or gets it now; a longer watch goes on beside the loop."""
        if one.claim:
            if one.claim.is_held():
                return True
            one.claim = None
        cell, patience = self.folder.cell(one.job.name), 0.0
        if one.claiming is None:
            cell.path.mkdir(parents=True, exist_ok=True)
            patience = 0.0 if cell.owner.exists() else _SECONDS_TO_CLAIM
            one.claiming = Claiming(cell.owner)
        if not one.claiming.is_over(patience):
            return False
        claiming, one.claiming = one.claiming, None
        one.claim = claiming.take()
        if one.claim is None:
            self._wait(one, claiming.holder)
        return one.claim is not None

    def _wait(self, one: _Waiting, whom: str, pause: float = 0.0, *, is_worker: bool = False) -> None:
        one.saw_worker = one.saw_worker or is_worker
        pause = max(pause, SECONDS_BETWEEN_LOOKS_AT_OTHERS)
        one.not_before = time.monotonic() + pause * random.uniform(0.8, 1.2)  # not all of them in one turn
        if whom != one.waits_for:
            one.waits_for = whom
            self._tell(one.job, "waits", CellState(reason=whom))

    def _tell(self, job: Job, what: str, state: CellState) -> None:
        with suppress(OSError):  # the terminal may have gone, or who read what this prints
            self.on_change(job, what, state)

    def _stop(self, why: str) -> None:
        """Ask what is at work to save, wait for it, and give all claims back."""
        for work, _ in self.at_work:
            processes.stop(work.process)
        began, is_told, is_killed = time.monotonic(), False, False
        while self.at_work:
            for work, one in [pair for pair in self.at_work if pair[0].process.poll() is not None]:
                self.at_work.remove((work, one))
                self._end_stopped(work, one, why)
            if self.signals.insisted and not is_killed:
                is_killed = True
                for work, _ in self.at_work:
                    work.kill()
            if not is_told and time.monotonic() - began >= SECONDS_TO_SAVE:
                is_told = True
                for _, one in self.at_work:
                    self._tell(one.job, "waits", CellState(reason=f"{one.job.name}, which saves what it has"))
            time.sleep(SECONDS_BETWEEN_LOOKS / 4)
        for one in self.waiting.values():
            self._release(one)

    def _end_stopped(self, work: AtWork, one: _Waiting, why: str) -> None:
        finished = work.judge(0) is None
        one.claim = work.claim
        try:
            state = carrying.write_outcome(
                work.cell,
                work.claim,
                "finished" if finished else "stopped",
                "" if finished else why,
                status=work.process.returncode,
            )
        except OSError:  # the state is of the last word that could be written; the run's own are with the run
            state = CellState(outcome="finished" if finished else "stopped", reason="" if finished else why)
        self._leave(one, state)
