"""The machine a job runs on: its device, its processes, its memory. torch is imported where it is asked."""

import os
import re
from contextlib import suppress
from pathlib import Path

DRIVER = Path("/sys/module/nvidia/version")


def device_type() -> str:
    """The kind of device that jobs run on: "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name() -> str:
    """The device as a person would name it."""
    import torch

    if device_type() == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.cpu.get_capabilities().get('cpu_name', 'CPU')}, {len(os.sched_getaffinity(0))} cores"


def is_cpu(name: str) -> bool:
    """Whether a `device_name` is that of a CPU."""
    return name == "cpu" or re.search(r", \d+ cores$", name) is not None


def process_count() -> int:
    """The number of processes of this job: torchrun says so, else one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Which of the job's processes this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def leads_node() -> bool:
    """Whether this process acts for all of the job's on its machine: one on each of them does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def join_processes() -> None:
    """Meet the job's other processes, unless that has happened. (mmengine's way there insists on a GPU.)"""
    import torch

    if process_count() == 1 or torch.distributed.is_initialized():
        return
    if device_type() == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if device_type() == "cuda" else "gloo")


def loader_workers(requested: int | None) -> int:
    """Loader processes for each training process: as asked for, else its share of the processors, 10 at most."""
    share = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(share, 10) if requested is None else requested


def cuda_version() -> str:
    """The CUDA version that PyTorch was built for; empty where jobs run on the CPU."""
    import torch

    return str(torch.version.cuda or "") if device_type() == "cuda" else ""


def driver_version() -> str:
    """The version of the GPU's driver; empty where jobs run on the CPU, or it does not tell."""
    with suppress(OSError):
        return DRIVER.read_text().strip() if device_type() == "cuda" else ""
    return ""
