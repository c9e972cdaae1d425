"""Carrying one cell out: its process is started, and what became of it written down, by whoever has its claim."""

import secrets
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.launching import processes
from benchmarks.launching.descendants import end_marked
from benchmarks.launching.slots import Slot
from benchmarks.running.claim import CLAIM
from benchmarks.running.lease import Lease, find_owner
from benchmarks.running.of_suite import ATTEMPT, CELL, END, SUITE, read_end
from benchmarks.scheduling.folders import (
    Attempt,
    CellFolder,
    CellState,
    Job,
    Outcome,
    SuiteFolder,
    now,
    with_weights_of,
)
from benchmarks.scheduling.judging import Verdict, judge, kills_for_memory
from results.errors import StoreError
from results.store import RECORD


@dataclass
class AtWork:
    """A cell whose process this one has started.

    token: of the attempt
    kills: for want of memory on this machine, before it began
    """

    job: Job
    cell: CellFolder
    claim: Lease
    process: subprocess.Popen[bytes]
    slot: int
    token: str
    kills: int

    def kill(self) -> None:
        """End its process, and all that it has started, at once and unsaved."""
        self.process.kill()
        end_marked(ATTEMPT, self.token)

    def judge(self, retries: int) -> Verdict | None:
        """What became of its process, which has ended; None where that has finished the cell."""
        status, run = self.process.returncode, self.cell.run
        if status == 0 and run and (run / RECORD).is_file():
            return None
        ran_out = kills_for_memory() > self.kills
        return judge(status, self.cell.log, retries=retries, memory_ran_out=ran_out)


def begin(
    job: Job, folder: SuiteFolder, claim: Lease, slots: Sequence[Slot], slot: int, locks: Sequence[int]
) -> AtWork:
    """Start a claimed cell's process in a slot. Raises OSError where its folder cannot be written."""
    cell, token = folder.cell(job.name), secrets.token_hex(8)
    state = read_state(cell)
    attempt = Attempt(by=claim.holder.name, began=now(), token=token)
    attempts = (*_with_last_end(cell, state), attempt)
    cell.write(state.model_copy(update={"outcome": None, "reason": "", "attempts": attempts}))
    arguments = [*with_weights_of(job.arguments, job.needs, folder), *slots[slot].arguments]
    heading = _heading(attempt, folder.name, slots[slot], arguments)
    own = {SUITE: folder.name, CELL: str(cell.path.absolute()), ATTEMPT: token}
    environment = {**own, **slots[slot].environment}
    kills = kills_for_memory()
    launcher = slots[slot].launcher
    process = processes.start(arguments, cell.log, environment, launcher=launcher, heading=heading, locks=locks)
    return AtWork(job, cell, claim, process, slot, token, kills)


def _heading(attempt: Attempt, suite: str, slot: Slot, arguments: Sequence[str]) -> str:
    """The first line of an attempt in the log: when, by whom, and the command that repeats this cell alone."""
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in {SUITE: suite, **slot.environment}.items())
    command = shlex.join(["backbench", *arguments])
    return f"\n[{attempt.began:%Y-%m-%d %H:%M:%S} UTC, by {attempt.by}] {variables}{command}\n"


def find_worker(cell: CellFolder) -> str:
    """Who is at work on a cell's run, whichever suite or command has started them; empty where nobody gives a sign."""
    for path in filter(None, (cell.process, cell.run and cell.run / CLAIM)):
        owner = find_owner(path)
        if owner and owner.lives:
            return owner.name
    return ""


def judge_left(cell: CellFolder, retries: int) -> Verdict | None:
    """What became of a process that another suite process had started, and that has ended; None if it did not say."""
    attempts = read_state(cell).attempts
    is_open = attempts and attempts[-1].ended is None
    status = read_end(cell.path, attempts[-1].token) if is_open else None
    return judge(status, cell.log, retries=retries) if status else None


def write_outcome(
    cell: CellFolder, claim: Lease, outcome: Outcome | None, reason: str = "", *, status: int | None = None
) -> CellState:
    """Write down what became of a cell, unless another process has its claim by now. Raises OSError.

    status: of its last attempt, which has just ended; None if that is known otherwise
    """
    state = read_state(cell)
    attempts = _with_last_end(cell, state)
    if attempts and status is not None:
        attempts = (*attempts[:-1], attempts[-1].model_copy(update={"ended": now(), "status": status}))
    state = state.model_copy(update={"outcome": outcome, "reason": reason, "attempts": attempts})
    if claim.is_held():
        cell.write(state)
    return state


def read_state(cell: CellFolder) -> CellState:
    """A cell's state, a new one in the place of what cannot be read, as a power cut may leave it."""
    try:
        return cell.read()
    except StoreError:
        return CellState()


def _with_last_end(cell: CellFolder, state: CellState) -> tuple[Attempt, ...]:
    """A cell's attempts; how the last has ended, its process may have said where nobody was there to see it."""
    if not state.attempts or state.attempts[-1].ended:
        return state.attempts
    last = state.attempts[-1]
    status = read_end(cell.path, last.token)
    with suppress(OSError):
        if status is not None:
            ended = datetime.fromtimestamp((cell.path / END).stat().st_mtime, UTC).replace(microsecond=0)
            return (*state.attempts[:-1], last.model_copy(update={"status": status, "ended": max(ended, last.began)}))
    return state.attempts


def forget_silent_process(cell: CellFolder) -> None:
    """Remove the lease of a process that gives no sign of life: its successor would watch it for a minute."""
    with suppress(OSError):
        cell.process.unlink(missing_ok=True)
