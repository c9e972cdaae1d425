"""What a run costs in time and memory: of this run alone, however many a process carries out, one after the other."""

import gc
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from backbones.training.machine import device_type

PROC = Path("/proc/self")


@dataclass
class _Run:
    """The present run of this process.

    began:       when, by the monotonic clock
    lifetime_mb: the most main memory that the process had held by then, where that cannot be reset
    """

    began: float
    lifetime_mb: float | None = None


_run = _Run(time.monotonic())


def begin_run() -> None:
    """A run begins: count time and peak memory from now on.

    Linux resets the most main memory that a process has held (proc_pid_clear_refs(5)), but some containers forbid it.
    """
    _run.began = time.monotonic()
    if device_type() == "cuda":
        gc.collect()  # what is left of an earlier run would count as this one's
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        (PROC / "clear_refs").write_text("5")
        _run.lifetime_mb = None
    except OSError:
        _run.lifetime_mb = _lifetime_mb()


def run_seconds() -> float:
    """Since the run began in this process."""
    return time.monotonic() - _run.began


def peak_memory_mb() -> float:
    """The most memory that this process has held since the run began, in MiB, without its loader processes.

    On a GPU it is what PyTorch allocated there, else main memory. Where its peak could not be reset, and an earlier run
    had a higher one, it is what is held now: whoever asks often gets near the peak.
    """
    if device_type() == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if _run.lifetime_mb is None:
        return _status_mb("VmHWM")
    lifetime = _lifetime_mb()
    return lifetime if lifetime > _run.lifetime_mb else _status_mb("VmRSS")


def _lifetime_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _status_mb(name: str) -> float:
    line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 2**10
