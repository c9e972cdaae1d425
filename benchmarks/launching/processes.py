"""A cell as a process of its own: its memory, its crashes and its signals stay there."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backbones.training.launching import TO_BE_ALONE

PROGRAM = (sys.executable, "-P", "-m", "benchmarks")
"""Without the current folder before the installed packages (-P): a `tasks.py` in it would be taken for ours."""


def start(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    launcher: Sequence[str] = (),
    heading: str = "",
    locks: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `backbench` with these arguments; all that it prints goes to the end of a log, below a heading.

    It is the first of a session of its own: Ctrl-C does not reach it but by `stop`. Suites that torchrun or srun has
    started several of are no job of several processes, and neither are their cells.

    launcher: a command that starts it in turn, such as srun with its options
    locks:    descriptors that stay open in it; what they lock is locked until it ends

    Raises OSError for a log that cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        file.write(heading.encode(errors="surrogateescape"))
        return subprocess.Popen(
            [*launcher, *PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_alone() | dict(environment),
            start_new_session=True,
            pass_fds=locks,
        )


def _alone() -> dict[str, str]:
    """This process's environment, without what says that it is one of several."""
    return {name: value for name, value in os.environ.items() if name not in TO_BE_ALONE.values()}


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to save and to end, as a scheduler does.

    Slurm tells every process of a step itself. There it is by SIGHUP, which is no second word that ends it at once;
    not so where this process ignores that, as what it has started then does, too.
    """
    is_told_by_others = "SLURM_JOB_ID" in os.environ and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGHUP if is_told_by_others else signal.SIGTERM)
