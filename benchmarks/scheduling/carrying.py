"""Carrying one cell out: it is claimed, its process started, watched, and what became of it written down."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import TryAgainError
from benchmarks.launching import processes
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.running.of_suite import CELL, SUITE
from benchmarks.scheduling.folders import Attempt, CellState, Job, SuiteFolder, now, with_weights_of
from results.store import RECORD

RETRIES = 2
"""How often a cell is begun again whose process was killed, or says that it is worth trying again."""

_END_OF_LOG = 64 << 10
"""Bytes of a log in which the reason of a failure is looked for."""

_OURS = re.compile(r"^backbench: (.+)$", re.MULTILINE)


@dataclass
class AtWork:
    """A cell that this process carries out.

    begins_at: of its log, in bytes, where the attempt's own part begins
    """

    job: Job
    folder: SuiteFolder
    claim: Lease
    process: subprocess.Popen[bytes]
    begins_at: int
    slot: int

    @property
    def is_worth_trying_again(self) -> bool:
        """Whether its process was killed, or ended with the status that says so."""
        status = self.process.returncode
        return status is not None and (status < 0 or status > 128 or status == TryAgainError.status)


def is_finished(job: Job, folder: SuiteFolder) -> bool:
    """Whether a run that the cell has made is finished."""
    run = folder.cell(job.name).run
    return run is not None and (run / RECORD).is_file()


def begin(job: Job, folder: SuiteFolder, slot: int, environment: Mapping[str, str]) -> AtWork | None:
    """Claim a cell and start its process; None if another suite process has it.

    Raises OSError where its folder cannot be written.
    """
    cell = folder.cell(job.name)
    cell.path.mkdir(parents=True, exist_ok=True)
    try:
        claim = Lease(cell.owner)
    except HeldByAnotherError:
        return None
    try:
        state = cell.read()
        attempt = Attempt(by=claim.holder.name, began=now())
        cell.write(state.model_copy(update={"outcome": None, "reason": "", "attempts": (*state.attempts, attempt)}))
        begins_at = cell.log.stat().st_size if cell.log.exists() else 0
        process = processes.start(
            with_weights_of(job.arguments, job.needs, folder),
            cell.log,
            {SUITE: folder.name, CELL: str(cell.path.absolute()), **environment},
        )
    except BaseException:
        claim.release()
        raise
    return AtWork(job, folder, claim, process, begins_at, slot)


def end(work: AtWork, *, was_stopped: bool) -> CellState:
    """Write down what became of a cell whose process has ended, and give its claim back."""
    cell = work.folder.cell(work.job.name)
    status = work.process.returncode
    state = cell.read()
    attempts = state.attempts
    if attempts:
        attempts = (*attempts[:-1], attempts[-1].model_copy(update={"ended": now(), "status": status}))
    outcome = "finished" if status == 0 else "stopped" if was_stopped else "failed"
    reason = "" if status == 0 else _reason(cell.log, work.begins_at, status)
    state = state.model_copy(update={"outcome": outcome, "reason": reason, "attempts": attempts})
    if work.claim.is_held():
        cell.write(state)
    work.claim.release()
    return state


def _reason(log: Path, begins_at: int, status: int) -> str:
    """Why a process ended, in its own last word, else by its status."""
    try:
        with log.open("rb") as file:
            file.seek(max(begins_at, log.stat().st_size - _END_OF_LOG))
            text = file.read().decode(errors="replace")
    except OSError:
        text = ""
    said = _OURS.findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if status < 0:
        return f"killed by signal {-status}" + (f" after: {lines[-1]}" if lines else "")
    return str(said[-1]) if said else lines[-1] if lines else f"exit status {status}"
