"""Jobs of Slurm: submitting them through submitit, asking for those in the queue, and what a job asks about itself."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backbones.errors import InputError, TryAgainError

MOST_OF_AN_ARRAY = 1000
"""Slurm's own limit (`MaxArraySize` in slurm.conf) is 1001 where nobody has set another."""

_PATIENCE = 60
"""Seconds in which Slurm has to answer."""

_EARLIEST = 65
"""Seconds that Slurm may warn ahead of when it was told to (sbatch(1), `--signal`), and some for asking."""


@dataclass(frozen=True)
class Submitted:
    """A job of the queue: its number, "12_3" in an array, and the file that Slurm's own messages go to."""

    number: str
    log: Path


def submit(
    call: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    folder: Path,
    options: Mapping[str, Any],
    *,
    after: str = "",
) -> list[Submitted]:
    """Submit a job for each tuple of arguments, with which `call` is called in it, as an array where they are several.

    call:    of an importable module
    folder:  for what submitit writes, and Slurm's messages; all nodes have to see it
    options: submitit's names for those of sbatch
    after:   the number of a job that has to succeed first

    The batch script becomes the process that calls, so that Slurm's warnings go to the steps that it starts alone.
    Raises InputError where there is no Slurm here, or sbatch refuses.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError("--launcher slurm: there are no commands sbatch and srun here. Submit from a login node")
    executor = SlurmExecutor(folder.absolute(), python=f"exec {sys.executable} -P")
    wait = {"dependency": f"afterok:{after}"} if after else {}
    executor.update_parameters(use_srun=False, stderr_to_stdout=True, wckey=None, **{"time": None, **options}, **wait)
    jobs = []
    with redirect_stderr(io.StringIO()):  # sbatch's words are in the error
        try:
            for begin in range(0, len(arguments), MOST_OF_AN_ARRAY):
                part = arguments[begin : begin + MOST_OF_AN_ARRAY]
                jobs += executor.map_array(call, *zip(*part, strict=True))
        except (FailedJobError, FailedSubmissionError) as error:
            raise InputError(f"sbatch refuses: {' '.join(str(error).split())}") from error
    return [Submitted(str(job.job_id), job.paths.stdout) for job in jobs]


def find_queued(numbers: Collection[str]) -> dict[str, str]:
    """Which of these jobs Slurm still has, waiting or running: their states in its words, by number.

    Raises TryAgainError where it does not answer.
    """
    if not numbers:
        return {}
    parents = sorted({number.partition("_")[0] for number in numbers})
    said = _ask("squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(parents)}")
    if said.returncode and "Invalid job id" not in said.stderr:
        raise TryAgainError(f"Slurm does not answer: squeue: {_words(said)}")
    states = dict(line.split(maxsplit=1) for line in said.stdout.splitlines() if line.strip())
    return {number: states[number] for number in numbers if number in states}


def has_queue() -> bool:
    """Whether this machine can ask Slurm."""
    return shutil.which("squeue") is not None


def own_number(environment: Mapping[str, str] = os.environ) -> str:
    """The number of the job that this process belongs to; empty outside of one."""
    array, task = (environment.get(f"SLURM_ARRAY_{name}", "") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "")


@dataclass(frozen=True)
class Standing:
    """How a running job stands with Slurm.

    is_running:    False once Slurm is ending it, cancelled or put back by somebody
    is_preempted:  whether it has to make room for another
    seconds_left:  of its time limit; None where it has none
    """

    is_running: bool
    is_preempted: bool
    seconds_left: float | None

    def is_over(self, signal_seconds: int) -> bool:
        """Whether its time is what it was warned of, if it was warned at all."""
        has_less_left = self.seconds_left is not None and self.seconds_left < signal_seconds + _EARLIEST
        return has_less_left and not self.is_preempted


def find_standing(number: str) -> Standing:
    """Raises TryAgainError where Slurm does not answer."""
    said = _ask("scontrol", "show", "job", "--oneliner", number)
    if said.returncode:
        raise TryAgainError(f"Slurm does not answer: scontrol: {_words(said)}")
    return standing_in(said.stdout, datetime.now())


def standing_in(text: str, now: datetime) -> Standing:
    """What `scontrol show job --oneliner` says."""
    fields = dict(re.findall(r"(?:^|\s)(JobState|PreemptTime|EndTime)=(\S+)", text))
    try:
        left = (datetime.fromisoformat(fields.get("EndTime", "")) - now).total_seconds()
    except ValueError:  # "Unknown"
        left = None
    preempted = fields.get("PreemptTime", "None") not in ("None", "Unknown")
    return Standing(fields.get("JobState") == "RUNNING", preempted, left)


def requeue(number: str) -> None:
    """Put a job back into the queue, which ends it. Raises TryAgainError where Slurm does not do it."""
    said = _ask("scontrol", "requeue", number)
    if said.returncode:
        raise TryAgainError(f"Slurm does not put job {number} back into the queue: {_words(said)}")


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TryAgainError(f"Slurm does not answer: {command[0]}: {error}") from error


def _words(said: subprocess.CompletedProcess[str]) -> str:
    return " ".join((said.stderr or said.stdout).split()) or f"exit status {said.returncode}"
