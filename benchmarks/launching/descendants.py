"""Ending all that a process has started, whatever session it is in, and whoever its parent is by now.

torch's elastic agent starts each process in a session of its own, which no signal to a group reaches. What they all
have is the environment that they were started with.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PATIENCE = 10.0
"""Seconds: a process that waits for a disk or a GPU dies once that has answered."""


def end_marked(variable: str, value: str) -> None:
    """SIGKILL for all programs but this one that were started with an environment variable of that value.

    And for what they start meanwhile, until none is left. Where there is no /proc, as on macOS, none is found.
    """
    until = time.monotonic() + _PATIENCE
    while (found := list(_marked(variable, value))) and time.monotonic() < until:
        for process in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _marked(variable: str, value: str) -> Iterator[int]:
    """The processes of that mark; a dead one that nobody has asked after has no environment any more."""
    wanted = os.fsencode(f"{variable}={value}")
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                yield int(path.parent.name)
