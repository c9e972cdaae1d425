"""A suite's cell as a job of Slurm: carried out as by a suite process, back into the queue when it had to stop."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from backbones.errors import TryAgainError
from benchmarks.launching import slurm
from benchmarks.launching.slurm import Standing
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.scheduling import carrying
from benchmarks.scheduling.carrying import RETRIES, AtWork
from benchmarks.scheduling.folders import CellFolder, CellState, Job, SuiteFolder

STOPPED = (130, *(128 + number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)))
"""How a cell ends that was told to: by itself, once it has saved, or by the signal, before it has begun to listen."""

_SECONDS_FOR_NUMBER = 30.0
"""In which whoever submitted the job writes its number into the cell's state. Until then nothing else is written."""

_SECONDS_BETWEEN_LOOKS = 0.2


def carry_out(out: str, suite: str, job: str, launcher: Sequence[str], signal_seconds: int, max_requeues: int) -> None:
    """Carry out the cell that this job of Slurm is for, and end with the status of its last process.

    job:            the cell, as JSON
    launcher:       srun with its options: Slurm's warnings reach what it starts, and not this process
    signal_seconds: how long before the end of its time it is warned
    max_requeues:   how often it may be put back into the queue because its time was over
    """
    cell = Job.model_validate_json(job)
    folder = SuiteFolder(Path(out), suite)
    number = slurm.own_number()
    _wait_for_number(folder.cell(cell.name), number)
    with _deaf():
        sys.exit(_until_done(cell, folder, launcher, number, (signal_seconds, max_requeues)))


def _until_done(job: Job, folder: SuiteFolder, launcher: Sequence[str], number: str, limits: tuple[int, int]) -> int:
    attempt = 0
    while True:
        if carrying.is_finished(job, folder):
            _note_end(folder.cell(job.name))
            return 0
        work = carrying.begin(job, folder, 0, {}, launcher)
        if work is None:
            print(f"{job.name}: another suite process carries it out", flush=True)
            return TryAgainError.status
        status = work.process.wait()
        if status and carrying.is_finished(job, folder):  # told to stop when there was nothing left to do
            carrying.end(work, was_stopped=True)
            continue
        if status in STOPPED or (work.is_worth_trying_again and not _find_standing(number).is_running):
            _stop(work, number, *limits)
            return status
        carrying.end(work, was_stopped=False)
        if attempt == RETRIES or not work.is_worth_trying_again:
            return status
        attempt += 1


def _note_end(cell: CellFolder) -> None:
    """Write down that a cell has finished whose run was found so."""
    with suppress(HeldByAnotherError), Lease(cell.owner):
        state = cell.read()
        if state.outcome != "finished":
            cell.write(state.model_copy(update={"outcome": "finished", "reason": ""}))


def _stop(work: AtWork, number: str, signal_seconds: int, max_requeues: int) -> None:
    """Write down that a cell was stopped, or has failed for its time; put its job back unless Slurm itself ends it."""
    cell, standing = work.folder.cell(work.job.name), _find_standing(number)
    state = cell.read()
    times = state.times + (standing.is_running and standing.is_over(signal_seconds))
    if work.claim.is_held():
        cell.write(state.model_copy(update={"times": times}))
    given_up = ""
    if times > max_requeues:
        given_up = (
            f"its time was over {times} time(s), and slurm.max_requeues is {max_requeues}. Submitted again, it goes on "
            "from its last checkpoint; give it more slurm.time in the site file"
        )
    carrying.end(work, was_stopped=True, given_up=given_up)
    if standing.is_running and not given_up:
        try:
            slurm.requeue(number)
        except TryAgainError as error:
            print(error, flush=True)


def _find_standing(number: str) -> Standing:
    """How the job stands; where Slurm does not tell, as one that is to be put back."""
    try:
        return slurm.find_standing(number)
    except TryAgainError as error:
        print(error, flush=True)
        return Standing(is_running=True, is_preempted=False, seconds_left=None)


def _wait_for_number(cell: CellFolder, number: str) -> None:
    deadline = time.monotonic() + _SECONDS_FOR_NUMBER
    while cell.read().job != number and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


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
    return state.model_copy(update={"job": number, "times": 0, "outcome": None, "reason": ""})
