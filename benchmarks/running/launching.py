"""`--processes`: this command in several processes on this machine, under the agent that torchrun has."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Collection
from contextlib import suppress

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher import LaunchConfig, elastic_launch

from backbones.errors import InputError
from backbones.training.machine import choose_device, process_count
from benchmarks.planning.recipe import load_recipe
from tasks.registry import FROM_CHECKPOINT

SECONDS_TO_SAVE = "300"
"""What the processes have to save their state once they are told to stop; torchrun's own is 30."""

HANDED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""Signals with which the agent stops the processes, and itself: torchrun's own, and Slurm's warnings. Those that it is
started to ignore, as nohup has it ignore SIGHUP, are left so."""

PROGRAM = ("-P", "-m", "benchmarks")
"""Without the current folder before the installed packages (-P): a `tasks.py` in it would be taken for ours."""


def is_to_launch(processes: int | None) -> bool:
    """Whether this process is to start that many. Raises InputError if it is itself one of another number."""
    count = process_count()
    if processes in (None, count):
        return False
    if count > 1:
        raise InputError(f"--processes {processes}: {count} have been started. Leave it out under torchrun and srun")
    return True


def require_devices(processes: int, recipe: str, overrides: list[str], tasks: Collection[str]) -> None:
    """Raise InputError where so many processes would not find a device each, before any is started: they take memory.

    Raises it as `load_recipe` does, too.
    """
    choose_device(load_recipe(recipe, overrides, tasks).recipe.runtime.device, to_start=processes)


def launch(processes: int, arguments: list[str], then: str = FROM_CHECKPOINT) -> int:
    """Run backbench with these arguments in so many processes; the exit status of the first that failed.

    `then` is what the command does when it is repeated.
    Ctrl-C and the signals of `HANDED_ON` are, and the status is that of an interrupted command.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SECONDS_TO_SAVE)
    logging.disable()  # the agent's: the processes say themselves what there is to say
    with tempfile.TemporaryDirectory(prefix="backbench_") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(logs),
            signals_to_handle=",".join(name for name in HANDED_ON if not _is_ignored(name)),
        )
        try:
            elastic_launch(config, sys.executable)(*PROGRAM, *arguments)
        except SignalException as stopped:
            return _stopped(signal.Signals(stopped.sigval), then)
        except ChildFailedError as failed:
            return _status(failed.failures, then)
        finally:
            logging.disable(logging.NOTSET)
    return 0


def _is_ignored(name: str) -> bool:
    return signal.getsignal(signal.Signals[name]) == signal.SIG_IGN


def _stopped(number: signal.Signals, then: str) -> int:
    """The exit status of an interrupted command; what else than Ctrl-C stopped it is named."""
    if number != signal.SIGINT:
        with suppress(OSError):  # the terminal may have gone
            print(
                f"backbench: stopped by {number.name}; repeat the command to {then}",
                file=sys.stderr,
            )
    return 128 + signal.SIGINT


def _status(failures: dict[int, ProcessFailure], then: str = FROM_CHECKPOINT) -> int:
    """The exit status, as shells have it, of the process that the others followed; one that was killed is named."""

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, bool, int]:
        status = item[1].exitcode  # of SIGTERM: it is what the agent sends to all once one has failed
        return status == -signal.SIGTERM, status >= 0, item[1].timestamp

    rank, failure = min(failures.items(), key=order)
    if failure.exitcode >= 0:
        return failure.exitcode
    name = signal.Signals(-failure.exitcode).name
    print(
        f"backbench: process {rank} of the job was killed ({name}), by the system if memory ran out. "
        f"Repeat the command to {then}",
        file=sys.stderr,
    )
    return 128 - failure.exitcode
