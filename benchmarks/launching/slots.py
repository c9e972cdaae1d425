"""Which cells run side by side on this machine: one a GPU, one on several, or several that share the processor.

A GPU that a cell is at work on is locked by a file in the folder for temporary files, which the cell's process holds:
other suites of the same user leave it alone, also where the suite that began the cell has been killed.
"""

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from backbones.errors import InputError

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"

_SECONDS_TO_ANSWER = 20
"""For nvidia-smi."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Room for one cell: what its process gets in its environment and its arguments, and which GPUs are its own.

    launcher: a command that starts it in turn, such as srun with its options
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()

    def lock(self) -> tuple[int, ...] | None:
        """Descriptors that keep its GPUs from others as long as any process has them open; None if others have one."""
        held: list[int] = []
        for gpu in self.gpus:
            path = _folder() / re.sub(r"[^\w.-]", "_", _uuid_of(gpu))
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                unlock(held)
                return None
            except OSError:  # nowhere to write, no locks here: then nobody is kept out
                continue
        return tuple(held)


@dataclass(frozen=True)
class Slots:
    """Slots, and in how many of them cells are at work at the same time."""

    slots: tuple[Slot, ...] = (Slot(),)
    at_once: int = 1


ONE_AT_A_TIME = Slots()


def unlock(descriptors: Sequence[int]) -> None:
    """Close what `Slot.lock` gave; what another process has open too stays locked."""
    for descriptor in descriptors:
        os.close(descriptor)


def share_out(jobs: str | None, gpus: Sequence[str] | None = None) -> Slots:
    """The slots for `--jobs gpu`, one on each GPU, or `--jobs N`; without that one cell at a time, on any one GPU.

    gpus: as CUDA_VISIBLE_DEVICES names them; by default those of this machine that the variable leaves visible

    N cells share the GPUs out, or, where there is none, the processor's cores. Raises InputError where that does not
    come out even, and for what is neither.
    """
    gpus = find_gpus() if gpus is None else gpus
    singles = tuple(_on_gpus((gpu,)) for gpu in gpus)
    if jobs is None:
        return Slots(singles or (Slot(),))
    if jobs == "gpu":
        if not gpus:
            raise InputError("--jobs gpu: there is no GPU here. Give a number of cells, --jobs 2, or leave it out")
        return Slots(singles, len(singles))
    if not re.fullmatch(r"[1-9]\d{0,3}", jobs):
        raise InputError(f'--jobs {jobs}: expected "gpu" for one cell a GPU, or how many cells at a time')
    count = int(jobs)
    if not gpus:
        return Slots((_on_processor(count),) * count, count)
    if count != len(gpus) and all(map(_is_part, gpus)):
        raise InputError(
            f"--jobs {count}: the GPUs here are {len(gpus)} MIG instances, and CUDA gives a process one of them alone. "
            "Give --jobs gpu for a cell on each, or leave it out for one cell at a time"
        )
    if len(gpus) % count:
        even = ", ".join(str(number) for number in range(1, len(gpus) + 1) if len(gpus) % number == 0)
        raise InputError(
            f"--jobs {count}: there are {len(gpus)} GPUs here, a cell needs one at least, and all as many "
            f"as the others. Give one of: {even}"
        )
    each = len(gpus) // count
    return Slots(tuple(_on_gpus(tuple(gpus[begin : begin + each])) for begin in range(0, len(gpus), each)), count)


def find_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that a process started here would see, as CUDA_VISIBLE_DEVICES names them: numbers, UUIDs, MIG's."""
    named = environment.get(VISIBLE)
    names = None if named is None else [name.strip() for name in named.split(",") if name.strip()]
    if names == []:
        return ()
    if names and all(map(_is_part, names)):
        return tuple(names)  # CUDA shows a process one of them alone, whatever it is given
    import torch

    count = torch.cuda.device_count()
    return tuple(names[:count] if names else map(str, range(count)))


def _is_part(gpu: str) -> bool:
    """Whether it is an instance that a GPU has been divided into (MIG)."""
    return gpu.startswith("MIG-")


def _on_gpus(gpus: tuple[str, ...]) -> Slot:
    """The slot of a cell that has these GPUs to itself, and a process on each."""
    arguments = ("--processes", str(len(gpus))) if len(gpus) > 1 else ()
    return Slot(environment={VISIBLE: ",".join(gpus)}, arguments=arguments, gpus=gpus)


def _on_processor(count: int) -> Slot:
    if count == 1 or os.environ.get(THREADS):
        return Slot()
    return Slot(environment={THREADS: str(max(1, len(os.sched_getaffinity(0)) // count))})


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"backbench-{os.getuid()}" / "gpus"


def _uuid_of(gpu: str) -> str:
    """What names a GPU for everybody: its UUID, where nvidia-smi knows that."""
    known = _known_uuids()
    if gpu.startswith("GPU-"):
        return next((uuid for uuid in known.values() if uuid.startswith(gpu)), gpu)
    return known.get(gpu, gpu)


@cache
def _known_uuids() -> dict[str, str]:
    """The UUIDs of this machine's GPUs, by their numbers."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER, check=True).stdout
        return dict(re.findall(r"^(\d+), (\S+)$", said, re.MULTILINE))
    return {}
