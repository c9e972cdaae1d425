"""Who this process is among those of its job, as their launcher says: torchrun, or Slurm's srun."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from backbones.errors import InputError

FIRST_PORT, PORTS = 20_000, 10_000
"""Where the processes of a Slurm step meet: below the ports that systems give out by themselves. Which one follows from
the job and the step, so that two of them on one machine seldom meet at the same."""

LAST_PORT = 65_535

SPECIAL_STEPS = 0xFFFFFFF0
"""From here on Slurm's ids of steps are those of its own (slurm.h): the batch script, an interactive shell."""

TO_BE_ALONE = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_ID"}
"""By launcher, the variable without which a process takes itself for the only one."""

_ALONE = f"torchrun and srun set it; to run one process alone, unset {' and '.join(TO_BE_ALONE.values())}"


@dataclass(frozen=True)
class Place:
    """One process's among those of its job; alone where nobody else says.

    local_rank, local_processes: among those on this machine
    address, port: where all of them meet
    launcher:      "torchrun" or "srun", empty where a process is alone
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1
    address: str = ""
    port: int = 0
    launcher: str = ""
    job: str = ""


def find_place(environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place. torchrun's variables come first: srun may have started it, one on each machine.

    Raises InputError for a variable that is no number, or none that there can be beside the others.
    """
    variables = _Variables(environment)
    if variables.text("WORLD_SIZE"):
        return _of_torchrun(variables)
    return _of_slurm(variables) if _is_of_a_step(variables) else Place()


def require_place(environment: Mapping[str, str] = os.environ) -> Place:
    """`find_place`; raises InputError also where several processes are not told all by which to find one another."""
    place = find_place(environment)
    if place.launcher == "torchrun" and place.processes > 1:
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            if not environment.get(name):
                raise InputError(f"environment variable {name}: not set, and WORLD_SIZE is {place.processes}. {_ALONE}")
    return place


@dataclass(frozen=True)
class _Variables:
    """What a launcher has set; what is empty counts as not set."""

    environment: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        return self.environment.get(name) or default

    def number(self, name: str, default: int = 0, *, least: int = 0, most: int | None = None) -> int:
        """Raises InputError for what is no whole number, or not within these limits."""
        value = self.text(name, str(default))
        if re.fullmatch(r"[0-9]+", value) and least <= int(value) <= (int(value) if most is None else most):
            return int(value)
        limits = f"of {least} or more" if most is None else f"from {least} to {most}" if most > least else str(least)
        raise InputError(f"environment variable {name}: {value!r}, expected a whole number {limits}. {_ALONE}")


def _of_torchrun(variables: _Variables) -> Place:
    processes = variables.number("WORLD_SIZE", least=1)
    own = variables.number("LOCAL_RANK", most=processes - 1)
    local = variables.number("LOCAL_WORLD_SIZE", own + 1, least=1, most=processes)
    return Place(
        rank=variables.number("RANK", most=processes - 1),
        processes=processes,
        local_rank=variables.number("LOCAL_RANK", most=local - 1),
        local_processes=local,
        address=variables.text("MASTER_ADDR"),
        port=variables.number("MASTER_PORT", most=LAST_PORT) if processes > 1 else 0,
        launcher="torchrun",
        job=variables.text("TORCHELASTIC_RUN_ID"),
    )


def _is_of_a_step(variables: _Variables) -> bool:
    """Whether srun started this and other processes; a batch script has the job's variables, and is alone."""
    step = variables.text("SLURM_STEP_ID")
    return step.isdecimal() and int(step) < SPECIAL_STEPS and _tasks(variables) > 1


def _tasks(variables: _Variables) -> int:
    """The step's, which may be fewer than the job's, and are told where the job has no number of them."""
    name = "SLURM_STEP_NUM_TASKS" if variables.text("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
    return variables.number(name, 1, least=1)


def _of_slurm(variables: _Variables) -> Place:
    """Slurm's output environment variables, srun(1)."""
    processes, node = _tasks(variables), variables.number("SLURM_NODEID")
    counts = _tasks_of_nodes(variables.text("SLURM_STEP_TASKS_PER_NODE", str(processes)))
    local = counts[min(node, len(counts) - 1)]
    hosts = variables.text("SLURM_STEP_NODELIST") or variables.text("SLURM_NODELIST")
    job = f"{variables.text('SLURM_JOB_ID', '0')}.{variables.text('SLURM_STEP_ID')}"
    number = int.from_bytes(hashlib.sha256(job.encode()).digest()[:4])
    for name, value in {"SLURM_PROCID": variables.text("SLURM_PROCID"), "SLURM_STEP_NODELIST": hosts}.items():
        if not value:
            raise InputError(f"environment variable {name}: not set, in a step of {processes} tasks. {_ALONE}")
    return Place(
        rank=variables.number("SLURM_PROCID", most=processes - 1),
        processes=processes,
        local_rank=variables.number("SLURM_LOCALID", most=local - 1),
        local_processes=local,
        address=variables.text("MASTER_ADDR") or first_host(hosts),
        port=variables.number("MASTER_PORT", FIRST_PORT + number % PORTS, most=LAST_PORT),
        launcher="srun",
        job=job,
    )


def first_host(hosts: str) -> str:
    """The first of Slurm's list of hosts: node03 of "node[03-05,9],other"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", hosts)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group()) if first else hosts


def _tasks_of_nodes(counts: str) -> list[int]:
    """Slurm's short form written out: 8, 8, 4 of "8(x2),4"."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in counts.split(",")]
    return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))] or [1]
