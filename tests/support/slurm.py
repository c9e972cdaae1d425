"""Jobs on the Slurm that tests/slurm/one_machine.sh sets up."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}
MEETING = {"MASTER_ADDR": "127.0.0.1"}
"""Where several tasks meet: its nodes have names that lead nowhere."""

PATIENCE = 120.0
"""Seconds within which what a test waits for has to happen."""


def answers() -> bool:
    """Whether it is that Slurm which is there, and not one whose time costs somebody money."""
    try:
        said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return any(line.split() == ["ClusterName", "=", "backbench"] for line in said.stdout.splitlines())


def slurm(*command: str, **environment: str) -> str:
    """What a command of Slurm prints."""
    variables = os.environ | ENVIRONMENT | environment
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.strip()


def wait_until(is_so: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Look until it is so; fail with `what` if that takes too long."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {patience:.0f} s"
        time.sleep(0.2)


def state(job: str) -> str:
    """A job's, as Slurm names it; empty of one that is over."""
    return slurm("squeue", "--noheader", "--jobs", job, "--format", "%T")


def restarts(job: str) -> int:
    """How often Slurm has started it again."""
    fields = slurm("scontrol", "show", "job", "--oneliner", job).split()
    (number,) = [field.removeprefix("Restarts=") for field in fields if field.startswith("Restarts=")]
    return int(number)


def preempt(node: str) -> str:
    """Preempt all that runs on a node, by a job that needs the whole of it for a few seconds."""
    whole = ["--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
    return slurm("sbatch", "--parsable", *whole, "--wrap=sleep 2")
