"""A suite's cell as a job of Slurm: carried out as by a suite process, back into the queue when it had to stop."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import TryAgainError
from benchmarks.launching import slurm
from benchmarks.launching.slots import Slot
from benchmarks.launching.slurm import Standing
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.scheduling import carrying
from benchmarks.scheduling.answering import has_changed
from benchmarks.scheduling.carrying import AtWork
from benchmarks.scheduling.folders import CellFolder, CellState, Job, SuiteFolder
from benchmarks.scheduling.judging import RETRIES, pause_before
from results.errors import StoreError

STOPPED = (130, *(128 + number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)))
"""How a cell ends that was told to: by itself, once it has saved, or by the signal, before it has begun to listen."""

_SECONDS_FOR_NUMBER = 30.0
"""In which whoever submitted the job writes its number into the cell's state. Until then nothing else is written."""

_SECONDS_FOR_OTHERS = 180.0
"""In which a process that a machine has taken with it is known to be gone."""

_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_LOOKS_AT_OTHERS = 0.2, 2.0


@dataclass(frozen=True)
class Limits:
    """Of one job.

    number:         Slurm's of it
    signal_seconds: how long before the end of its time it is warned
    max_requeues:   how often it may be put back into the queue because its time was over
    """

    number: str
    signal_seconds: int
    max_requeues: int


def carry_out(out: str, suite: str, job: str, launcher: Sequence[str], signal_seconds: int, max_requeues: int) -> None:
    """Carry out the cell that this job of Slurm is for, and end with the status of its last process.

    job:      the cell, as JSON
    launcher: srun with its options: Slurm's warnings reach what it starts, and not this process
    """
    planned, folder = Job.model_validate_json(job), SuiteFolder(Path(out), suite)
    limits = Limits(slurm.own_number(), signal_seconds, max_requeues)
    cell = folder.cell(planned.name)
    _wait_for_number(cell, limits.number)
    with _deaf():
        try:
            claim = Lease(cell.owner)
        except HeldByAnotherError as owner:
            print(f"{planned.name}: {owner} has claimed this cell", flush=True)
            sys.exit(TryAgainError.status)
        with claim:
            status, is_to_return = _until_done(planned, folder, claim, Slot(launcher=tuple(launcher)), limits)
        if is_to_return:
            try:
                slurm.requeue(limits.number)
            except TryAgainError as error:
                print(error, flush=True)
                with Lease(cell.owner) as claim:
                    carrying.write_outcome(cell, claim, "stopped", str(error))
        sys.exit(status)


def _until_done(job: Job, folder: SuiteFolder, claim: Lease, slot: Slot, limits: Limits) -> tuple[int, bool]:
    """The status of the cell's last process, and whether the job is to go back into the queue."""
    cell, tries = folder.cell(job.name), 0
    if carrying.read_state(cell).outcome == "finished":  # by another suite process, since it was submitted
        return 0, False
    if has_changed(job, {**cell.read_submitted(), job.name: job}, _jobs_now(folder)):
        print(f"{job.name}: the suite has been changed since this job was submitted. Repeat its command", flush=True)
        return TryAgainError.status, False
    if worker := _wait_for_worker(cell):
        print(f"{job.name}: {worker} carries this cell out", flush=True)
        return TryAgainError.status, False
    carrying.forget_silent_process(cell)
    while True:
        work = carrying.begin(job, folder, claim, [slot], 0, ())
        status = work.process.wait()
        verdict = work.judge(RETRIES)
        if verdict is None:
            carrying.write_outcome(cell, claim, "finished", status=status)
            return status, False
        if status in STOPPED or (verdict.retries and not _find_standing(limits.number).is_running):
            return status, _stop(work, limits, verdict.reason)
        if verdict.no_room:
            carrying.write_outcome(cell, claim, "stopped", verdict.reason, status=status)
            return TryAgainError.status, False
        if tries >= verdict.retries:
            carrying.write_outcome(cell, claim, "failed", verdict.reason, status=status)
            return status or 1, False
        tries += 1
        pause = pause_before(tries)
        reason = f"{verdict.reason}. Tried again in {pause:.0f} s"
        carrying.write_outcome(cell, claim, None, reason, status=status)
        time.sleep(pause)


def _jobs_now(folder: SuiteFolder) -> Mapping[str, Job]:
    """The suite's cells as its plan has them now; none where that cannot be read."""
    with suppress(StoreError):
        plan = folder.read()
        return plan.by_name if plan else {}
    return {}


def _stop(work: AtWork, limits: Limits, reason: str) -> bool:
    """Write down that a cell was stopped, or so often that it has failed; whether its job goes back into the queue.

    It does not where Slurm itself ends the job, which was cancelled, or put back by somebody.

    reason: in the words of its process
    """
    cell, claim, status = work.cell, work.claim, work.process.returncode
    standing = _find_standing(limits.number)
    state = carrying.read_state(cell)
    is_over = standing.is_running and standing.is_over(limits.signal_seconds)
    is_others = standing.is_running and not is_over and not standing.is_preempted
    state = state.model_copy(update={"times": state.times + is_over, "stops": state.stops + is_others})
    if claim.is_held():
        cell.write(state)
    if failure := _why_failed(state, limits, reason):
        carrying.write_outcome(cell, claim, "failed", failure, status=status)
        return False
    why = "preempted" if standing.is_preempted else "its time was over" if is_over else "stopped by Slurm"
    why = "told to end" if is_others else why
    if standing.is_running:
        carrying.write_outcome(cell, claim, None, f"{why}; goes back into Slurm's queue", status=status)
    else:
        carrying.write_outcome(cell, claim, "stopped", why, status=status)
    return standing.is_running


def _why_failed(state: CellState, limits: Limits, reason: str) -> str:
    """Why a cell that was stopped has failed; empty of one that goes on."""
    if state.times > limits.max_requeues:
        return (
            f"its time was over {state.times} time(s), and slurm.max_requeues is {limits.max_requeues}. Submitted "
            "again, it goes on from its last checkpoint; give it more slurm.time in the site file"
        )
    if state.stops > RETRIES:
        return f"stopped {state.stops} times, neither preempted nor out of time. The last time: {reason}"
    return ""


def _find_standing(number: str) -> Standing:
    """How the job stands; where Slurm does not tell, as one that is to be put back."""
    try:
        return slurm.find_standing(number)
    except TryAgainError as error:
        print(error, flush=True)
        return Standing(is_running=True, is_preempted=False, seconds_left=None)


def _wait_for_number(cell: CellFolder, number: str) -> None:
    deadline = time.monotonic() + _SECONDS_FOR_NUMBER
    while carrying.read_state(cell).job != number and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _wait_for_worker(cell: CellFolder) -> str:
    """Who is at work on the cell's run for longer than a dead process seems to be; empty where nobody is."""
    deadline = time.monotonic() + _SECONDS_FOR_OTHERS
    while (worker := carrying.find_worker(cell)) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS_AT_OTHERS)
    return worker


@contextmanager
def _deaf() -> Iterator[None]:
    """Take no notice of what ends a job, and leave it to what srun has started to save and to end.

    It is no ignoring, which processes that are started would do in turn.
    """
    signals = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2)
    former = {number: signal.signal(number, lambda number, frame: None) for number in signals}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def waiting_state(state: CellState, number: str) -> CellState:
    """That of a cell which has just been submitted."""
    return state.model_copy(update={"job": number, "times": 0, "stops": 0, "outcome": None, "reason": ""})
