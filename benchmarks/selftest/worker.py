"""A process of its own for a self-test's lines: a GPU's spoilt context, or a hang, ends no more than that."""

import gc
import multiprocessing
import multiprocessing.process
import os
import pkgutil
import re
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.launching.descendants import end_marked
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError, State, memory_gib

_MARK = "BACKBENCH_SELFTEST"
"""In the environment of all that a worker starts."""

_START_SECONDS = 300.0
"""Within which a process has imported its libraries and reached its device, also from a slow disk."""

_END_SECONDS = 30.0
"""Within which a process that was killed is gone; one that waits for a GPU or a disk that hangs may never be."""

SUFFICIENT = 76.0
"""GiB with which every line is known to go through: an H100 of 80 GB has 79, less what CUDA itself takes."""

_RAN_OUT = re.compile("(CUDA|Cuda|HIP)[^\n]* out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|'out of memory'")
"""In what PyTorch, cuBLAS, cuDNN and NCCL say of a GPU's memory, in this process or in one that it has started."""

_children: set[Any] = vars(multiprocessing.process)["_children"]
"""The processes that the end of this program waits for, for as long as they may take."""

_OF_LAUNCHERS = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_"),
    *("SLURM_STEP", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)
"""How the variables begin by which torchrun and Slurm's srun tell a process its place."""


@dataclass(frozen=True)
class Outcome:
    """What came of a line; `found` and `why` as in `Verdict`."""

    state: State
    found: Found | None = None
    why: str = ""


class Worker:
    """Tries lines in a process that is started for the first of them, and anew after one that failed.

    lines:  the full name of a tuple of lines, "package.module:NAME", which the process imports for itself
    device: "cuda" or "cpu"
    log:    a file that takes all that lines print
    """

    def __init__(self, lines: str, device: str, log: Path) -> None:
        self.lines, self.device, self.log = lines, device, log
        self._token = secrets.token_hex(8)
        self._process: Any = None
        self._pipe: Connection | None = None
        self.about: Mapping[str, str] = {}

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start(self) -> None:
        """Start the process, unless it runs; `about` then says what it runs on.

        Raises RuntimeError if it cannot, NotRunError where others have left it no memory of the GPU's.
        """
        if self._process is not None and self._process.is_alive():
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self.lines, self.device, self.log, self._token))
        self._process.start()
        other.close()
        answer = self._answer(_START_SECONDS)
        if not isinstance(answer, Mapping):
            self.end()
            if isinstance(answer, Outcome) and answer.state == "not run":
                raise NotRunError(answer.why)
            raise RuntimeError(answer.why if isinstance(answer, Outcome) else f"no start within {_START_SECONDS:.0f} s")
        self.about = answer

    def try_line(self, line: Line, scratch: Path, data: Path, limit: float) -> Outcome:
        """Try a line, for `limit` seconds at most; a process that has failed in one is ended."""
        self.start()
        assert self._pipe is not None
        self._pipe.send((line.name, scratch, data))
        outcome = self._answer(limit) or Outcome("failed", why=f"not done after {limit:.0f} s, and ended")
        assert isinstance(outcome, Outcome)
        if outcome.state == "failed":
            self.end()
        return outcome

    def end(self) -> None:
        """End the process and all that it has started, in whatever session that is."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # it may not have come to a group of its own
        self._process.join(_END_SECONDS)
        _children.discard(self._process)
        self._process = None
        end_marked(_MARK, self._token)

    def _answer(self, limit: float) -> Any:
        """What the process sends within so many seconds; None if nothing, an outcome if it has died."""
        assert self._pipe is not None
        until = time.monotonic() + limit
        while (left := until - time.monotonic()) > 0:
            try:
                if self._pipe.poll(min(left, 0.5)):
                    return self._pipe.recv()
            except (EOFError, OSError):
                self._process.join(10)
                return Outcome("failed", why=f"{_death(self._process.exitcode)}; {self.log} has what it printed")
        return None


def _death(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the process ended with exit status {status}"
    return f"the process was ended by {signal.Signals(-status).name}"


def _serve(pipe: Connection, lines: str, device: str, log: Path, token: str) -> None:
    """Be the process: say what this runs on, then try what is asked for until nobody asks any more."""
    forget_launcher()
    os.setsid()  # Ctrl-C is the other process's, which ends this one and all that it has started
    os.environ[_MARK] = token
    threading.Thread(target=_end_with_parent, args=(token,), daemon=True).start()
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        known: Sequence[Line] = pkgutil.resolve_name(lines)
        pipe.send(_about(device))
    except Exception as error:
        traceback.print_exc()
        pipe.send(Outcome("not run" if _has_run_out(error) else "failed", why=first_line(error)))
        return
    while True:
        try:
            name, scratch, data = pipe.recv()
        except EOFError:
            return
        (line,) = (each for each in known if each.name == name)
        pipe.send(_tried(line, Bench(device, scratch, data)))


def forget_launcher() -> None:
    """Leave nothing in the environment of the launcher that may have started this: jobs would take it for theirs."""
    for name in [name for name in os.environ if name.startswith(_OF_LAUNCHERS)]:
        del os.environ[name]


def _end_with_parent(token: str) -> None:
    """Wait for the end of the process that has started this one, even by SIGKILL, and end all that is left then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    end_marked(_MARK, token)
    os.killpg(0, signal.SIGKILL)


def _about(device: str) -> dict[str, str]:
    import torch

    from backbones.training.machine import choose_device, cuda_version, device_name, driver_version
    from backbones.training.precision import bf16_is_fast

    choose_device("cuda" if device == "cuda" else "cpu")
    torch.ones(1, device=device)  # a GPU's context, which takes seconds
    lacks = "not on this GPU, left out" if device == "cuda" and not bf16_is_fast(device) else ""
    return {"device": device_name(), "cuda": cuda_version(), "driver": driver_version(), "bf16": lacks}


def _tried(line: Line, bench: Bench) -> Outcome:
    import torch

    print(f"== {line.name}", flush=True)
    torch.manual_seed(0)
    free, total = memory_gib(bench.device)
    try:
        found = line.run(bench)
        if bench.device == "cuda":
            torch.cuda.synchronize()  # an error of a kernel shows when it is waited for
        return Outcome("ok" if found.fine else "failed", found)
    except NotRunError as error:
        return Outcome("not run", why=str(error))
    except Exception as error:
        traceback.print_exc()
        why, has_run_out = first_line(error), _has_run_out(error)
    finally:
        gc.collect()
        if bench.device == "cuda":
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
    if has_run_out and free is not None:
        with suppress(RuntimeError):
            free = min(free, memory_gib(bench.device)[0] or 0)  # others may have taken of it meanwhile
        if free < SUFFICIENT:
            return Outcome("not run", why=f"out of memory, of which {free:.0f} of {total:.0f} GiB were free")
    return Outcome("failed", why=why)


def _has_run_out(error: Exception) -> bool:
    """Whether there was too little of a GPU's memory, for this process or for one that it has started."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or _RAN_OUT.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    """An error's kind and the first line of its message; of one in a process that PyTorch has started, that one's."""
    from torch.multiprocessing import ProcessRaisedException

    text = str(error).strip()
    if isinstance(error, ProcessRaisedException):  # its message is a traceback
        _, _, ended = text.rpartition('\n  File "')
        return next((line for line in ended.splitlines()[1:] if line[:1].strip()), text.splitlines()[0])
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
