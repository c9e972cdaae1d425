"""Who this process is among those of its job, as their launcher says: torchrun, or Slurm's srun."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

FIRST_PORT, PORTS = 20_000, 10_000
"""Where the processes of a Slurm step meet: below the ports that systems give out by themselves. Which one follows from
the job and the step, so that two of them on one machine seldom meet at the same."""

SPECIAL_STEPS = 0xFFFFFFF0
"""From here on Slurm's ids of steps are those of its own (slurm.h): the batch script, an interactive shell."""


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
    """This process's place. torchrun's variables come first: srun may have started it, one on each machine."""
    if "WORLD_SIZE" in environment:
        return Place(
            rank=int(environment.get("RANK", "0")),
            processes=int(environment["WORLD_SIZE"]),
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            local_processes=int(environment.get("LOCAL_WORLD_SIZE", "1")),
            address=environment.get("MASTER_ADDR", ""),
            port=int(environment.get("MASTER_PORT", "0")),
            launcher="torchrun",
            job=environment.get("TORCHELASTIC_RUN_ID", ""),
        )
    return _of_slurm(environment) if _is_of_a_step(environment) else Place()


def _is_of_a_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this and other processes; a batch script has the job's variables, and is alone."""
    step, tasks = environment.get("SLURM_STEP_ID", ""), environment.get("SLURM_NTASKS", "1")
    return step.isdecimal() and int(step) < SPECIAL_STEPS and int(tasks) > 1


def _of_slurm(environment: Mapping[str, str]) -> Place:
    """Slurm's output environment variables, srun(1)."""
    processes, node = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NODEID", "0"))
    counts = _tasks_of_nodes(environment.get("SLURM_STEP_TASKS_PER_NODE", str(processes)))
    hosts = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_NODELIST"]
    job = f"{environment.get('SLURM_JOB_ID', '0')}.{environment['SLURM_STEP_ID']}"
    number = int.from_bytes(hashlib.sha256(job.encode()).digest()[:4])
    return Place(
        rank=int(environment["SLURM_PROCID"]),
        processes=processes,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_processes=counts[min(node, len(counts) - 1)],
        address=environment.get("MASTER_ADDR") or first_host(hosts),
        port=int(environment.get("MASTER_PORT") or FIRST_PORT + number % PORTS),
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
