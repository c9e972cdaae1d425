"""The machine a job runs on: its device, its processes, its memory. torch is imported where it is asked."""

import ctypes
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from backbones.errors import InputError
from backbones.training.launching import Place, find_place
from backbones.training.meeting import COMPUTING, TALKING, Meeting, meet

Device = Literal["auto", "cuda", "cpu"]

DRIVER = Path("/sys/module/nvidia/version")
DEVICE_FILES = Path("/dev")
NO_DEVICE, STUB_LIBRARY = 100, 34
"""CUresult (cuda.h) where there is no GPU, and of the library that programs are only built against."""

PATIENCE = 10.0
"""Seconds for which a process that ends waits until the others know why."""

TO_CPU = "--set runtime.device=cpu"

CUBLAS_WORKSPACE, CUBLAS_WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""The variable, and its values under which cuBLAS adds in a fixed order (NVIDIA's documentation, "Reproducibility")."""

_chosen: Device = "auto"
_meeting: Meeting | None = None


def device_type() -> str:
    """The kind of device that jobs run on, "cuda" or "cpu": as chosen, else "cuda" where there is one."""
    import torch

    if _chosen != "auto":
        return _chosen
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_device(wanted: Device, to_start: int = 0) -> None:
    """Let this process's jobs run on that kind of device from now on, or those of so many that it is to start here.

    Raises InputError where there is none that can be used, where a GPU's driver is of no use, and where several
    processes would share one GPU, or a CPU that nobody asked for.
    """
    global _chosen
    import torch

    _chosen = wanted
    last = Place(to_start - 1, to_start, local_rank=to_start - 1, local_processes=to_start)
    place = last if to_start else find_place()
    if wanted == "cpu":
        return
    # Read once, at the first product on a GPU, which may come before a run with `runtime.deterministic`.
    os.environ.setdefault(CUBLAS_WORKSPACE, CUBLAS_WORKSPACES[0])
    if torch.cuda.is_available():
        if place.processes > 1:
            _gpu(place)
        return
    if why := _why_unusable():
        raise InputError(
            f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda} and finds no usable driver for this "
            f"machine's GPU: {why}. Renew the driver, or install a PyTorch for the one that is there; {TO_CPU} runs on "
            "the CPU"
        )
    if wanted == "cuda":
        raise InputError(f'key "runtime.device": "cuda", and PyTorch {torch.__version__} finds no GPU. Use "cpu"')
    if place.processes > 1:
        raise InputError(f"{place.processes} processes and no GPU. If that is meant, {TO_CPU}; else start one process")


def _why_unusable() -> str:
    """Why CUDA finds nothing although there is a GPU; empty where there is none, or none is to be seen."""
    import torch

    if torch.version.cuda is None or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):
        return ""
    status = _driver_status()
    if not any(DEVICE_FILES.glob("nvidia[0-9]*")) and status in (None, NO_DEVICE, STUB_LIBRARY):
        return ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return f"cuInit says {status}"


def _driver_status() -> int | None:
    """What the driver's own library answers; None where there is no such library."""
    try:
        return int(ctypes.CDLL("libcuda.so.1").cuInit(0))
    except (OSError, AttributeError):
        return None


def _gpu(place: Place | None = None) -> int:
    """The number of this process's GPU, or of one at that place. Raises InputError where there is none left for it."""
    import torch

    place, count = place or find_place(), torch.cuda.device_count()
    if place.launcher == "srun" and count == 1:  # --gpus-per-task shows each process its own
        return 0
    if place.local_rank >= count:
        raise InputError(
            f"{place.local_processes} processes on {socket.gethostname()}, which has {count} GPU(s). Start one process "
            "for each"
        )
    return place.local_rank


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
    """The number of processes of this job."""
    return find_place().processes


def process_rank() -> int:
    """Which of the job's processes this is, from 0."""
    return find_place().rank


def leads_node() -> bool:
    """Whether this process acts for all of the job's on its machine: one on each of them does."""
    return find_place().local_rank == 0


def meet_processes(complaint: str = "") -> None:
    """Meet the job's other processes, unless that has happened.

    complaint: what this process has found wrong, such as a device that it cannot use, with which all are to end

    Raises InputError, the same in all, if one has a complaint, or if devices are unlike; and as `meet` does.
    """
    global _meeting
    if process_count() == 1 or _meeting:
        if complaint:
            raise InputError(complaint)
        return
    meeting = meet(find_place())
    _agree(meeting.store, complaint)
    _meeting = meeting


def meeting() -> Meeting:
    """Where this process has met the others."""
    assert _meeting
    return _meeting


def join_processes() -> None:
    """Let the job's processes talk, unless they do: they meet before. (mmengine's way there insists on a GPU.)

    What they say is waited for until `together` tells that one has gone.
    """
    import torch

    if process_count() == 1 or torch.distributed.is_initialized():
        return
    meet_processes()
    place, backend, patience = find_place(), "gloo", TALKING
    if device_type() == "cuda":
        torch.cuda.set_device(_gpu())
        backend, patience = "nccl", COMPUTING
    _tell_engine()
    store = torch.distributed.PrefixStore("default_pg", meeting().store)
    torch.distributed.init_process_group(
        backend, store=store, rank=place.rank, world_size=place.processes, timeout=patience
    )


def _tell_engine() -> None:
    """Which GPU is this process's. mmengine's loggers index those to be seen by LOCAL_RANK, and there may be fewer: a
    job on the CPU beside a GPU, a task under srun that is shown its own."""
    import mmengine.logging.logger

    mmengine.logging.logger._get_device_id = lambda: _gpu() if device_type() == "cuda" else 0


def _agree(store: Any, complaint: str) -> None:
    """Raise InputError, the same in all processes, for the first complaint, unlike devices, and a GPU of several."""
    place = find_place()
    keys = [f"found/{rank}" for rank in range(place.processes)]
    kind, gpu = ("", "") if complaint else (device_type(), _gpu_identity())
    store.set(keys[place.rank], json.dumps((socket.gethostname(), kind, gpu, complaint)))
    answers = [json.loads(store.get(key)) for key in keys]
    wrong = _complaint(answers) or _unlike(answers) or _shared(answers)
    if not wrong:
        return
    readers, deadline = store.add("read", 1), time.monotonic() + PATIENCE
    while place.rank == 0 and readers < place.processes and time.monotonic() < deadline:  # the store may be its own
        time.sleep(0.05)
        readers = store.add("read", 0)
    raise InputError(wrong)


def _complaint(answers: Sequence[Sequence[str]]) -> str:
    """The first complaint, with the machine that has it where not all processes have one."""
    complaints = [(host, said) for host, *_, said in answers if said]
    if not complaints:
        return ""
    host, said = complaints[0]
    return said if len(complaints) == len(answers) else f"on {host}: {said}"


def _unlike(answers: Sequence[Sequence[str]]) -> str:
    """What is wrong where (host, kind of device, GPU, …) of the processes are of several kinds."""
    hosts = {kind: host for host, kind, *_ in answers}
    told = ", ".join(f"{kind} on {host}" for kind, host in sorted(hosts.items()))
    unlike = f"the processes of this job would run on unlike devices: {told}. Set runtime.device for all"
    return unlike if len(hosts) > 1 else ""


def _shared(answers: Sequence[Sequence[str]]) -> str:
    """What is wrong where several have one GPU: under srun each may see one, and takes that for its own."""
    counts = Counter((gpu, host) for host, _, gpu, *_ in answers if gpu)
    return next(
        (
            f"{count} processes on {host} would share one GPU ({gpu}). Start one process for each, as with srun's "
            "--ntasks-per-node and --gpus-per-node of the same number"
            for (gpu, host), count in counts.items()
            if count > 1
        ),
        "",
    )


def _gpu_identity() -> str:
    """By which the driver knows this process's GPU, or its part of one; empty on a CPU, and where it does not tell."""
    import torch

    if device_type() != "cuda":
        return ""
    return str(getattr(torch.cuda.get_device_properties(_gpu()), "uuid", ""))


def loader_workers(requested: int | None) -> int:
    """Loader processes for each training process: as asked for, else its share of the processors, from 1 to 10.

    Slurm may let each of its tasks run on the processors of all, or has given each its own (srun(1), `--cpu-bind`).
    """
    if requested is not None:
        return requested
    processors, place = len(os.sched_getaffinity(0)), find_place()
    share = processors // place.local_processes
    if place.launcher == "srun":
        of_all, own = os.environ.get("SLURM_CPUS_ON_NODE"), os.environ.get("SLURM_CPUS_PER_TASK")
        if own:
            share = min(int(own), processors)
        elif of_all and processors * place.local_processes <= int(of_all):
            share = processors
    return max(1, min(share, 10))


def cuda_version() -> str:
    """The CUDA version that PyTorch was built for; empty where jobs run on the CPU."""
    import torch

    return str(torch.version.cuda or "") if device_type() == "cuda" else ""


def driver_version() -> str:
    """The version of the GPU's driver; empty where jobs run on the CPU, or it does not tell."""
    with suppress(OSError):
        return DRIVER.read_text().strip() if device_type() == "cuda" else ""
    return ""
