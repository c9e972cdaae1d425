"""Several processes of one job end together, all with the exit status of the first that fails, which says why.

A process that fails alone leaves the others waiting for it until their launcher kills them, and their statuses then
say nothing. So each looks, every so often, whether another has left word in the store at which the processes met.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from backbones.training.machine import join_processes, meet_processes, meeting, process_count, process_rank

_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 10.0
"""Seconds for which a process that fails waits until all others know."""

FOLLOWED = "ended because another process of the job has failed"
FOLLOWERS_DELAY = 60
"""Seconds by which the others' words are put off: torchrun counts whole ones, and all end within the same."""


class _Watch:
    """This process's eye on the others: a thread with a connection of its own to the store where they met."""

    def __init__(self, before_exit: Callable[[], None]) -> None:
        self.before_exit = before_exit
        self.store = meeting().connect_again(timedelta(seconds=_PATIENCE))
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, name="together", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.ended.wait(_SECONDS_BETWEEN_LOOKS):
            with suppress(RuntimeError):  # the store has gone, with the process that had it
                if self.store.check(["status"]):
                    self._follow()

    def _follow(self) -> None:
        """End this process at once: its main thread may be waiting for one that has gone."""
        status = int(self.store.get("status").split()[0])
        with suppress(OSError):
            self.before_exit()
        _tell_launcher(FOLLOWED, is_cause=False)
        with suppress(RuntimeError):
            self.store.add("seen", 1)
            if process_rank() == 0:  # under srun the store goes with it
                self._wait_for_all()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def end(self) -> None:
        self.ended.set()
        self.thread.join()

    def leave(self, status: int, message: str) -> int:
        """Say with which status this process ends, and wait until all others know; the status that was said first.

        If that is this process's, its message is printed, as the job's last word.
        """
        self.end()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):  # the launcher's, who sees that the others have ended
                signal.signal(number, signal.SIG_IGN)
        own = said = f"{status} {process_rank()}"
        with suppress(RuntimeError):
            said = self.store.compare_set("status", "", own).decode()
            self.store.add("seen", 1)
            self._wait_for_all()
        _say(message, is_cause=said == own)
        return int(said.split()[0])

    def lose(self, status: int, message: str) -> int:
        """Do as `leave`, but wait for nobody: one of the others can't know any more."""
        self.end()
        own = said = f"{status} {process_rank()}"
        with suppress(RuntimeError):
            said = self.store.compare_set("status", "", own).decode()
        if said == own:
            print(message, file=sys.stderr, flush=True)
        _tell_launcher(FOLLOWED, is_cause=False)
        return int(said.split()[0])

    def _wait_for_all(self) -> None:
        """Until all processes know, or for so long that the others have gone or hang."""
        deadline = time.monotonic() + _PATIENCE
        while self.store.add("seen", 0) < process_count() and time.monotonic() < deadline:
            time.sleep(0.05)

    def follow(self) -> int:
        """Wait for the thread that looks to end this process; the status of an unknown fault if nothing is said."""
        self.thread.join(_PATIENCE)
        return 1


_watch: _Watch | None = None


@contextmanager
def together(before_exit: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Meet the job's other processes; within the block, and after a failure in it, end when another of them fails.

    `before_exit` is then called first, from a thread. A block within another says what that is to be meanwhile. Nothing
    of all that where one process is alone.
    """
    global _watch
    if process_count() == 1:
        yield
    elif _watch:
        outer, _watch.before_exit = _watch.before_exit, before_exit
        yield
        _watch.before_exit = outer
    else:
        meet_processes()
        _watch = _Watch(before_exit)
        join_processes()  # under the others' eyes: who cannot connect ends all
        yield
        _watch.end()
        _watch = None


def leave(status: int, message: str, *, is_fault: bool = False) -> int:
    """Tell all other processes to end, and give the exit status for this one: that of the first that failed.

    Of all messages one is printed: that process's, or, before the processes have met, the first one's, and that of a
    fault of our own which the first has not come upon.
    """
    if _watch:
        return _watch.leave(status, message)
    is_told = process_rank() != 0 and (wait_for_first() or not is_fault)
    _say(message, is_cause=not is_told)
    return status


def lose(status: int, message: str) -> int:
    """Tell all processes that are left to end, where one has gone that said nothing; the exit status for this one."""
    return _watch.lose(status, message) if _watch else leave(status, message)


def wait_for_first() -> bool:
    """Let the first process say what all have found: once one has ended, the launcher sends SIGTERM to the others.

    Whether that has come.
    """
    if threading.current_thread() is not threading.main_thread():
        return True
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda number, frame: received.append(number))
    signal.alarm(int(_PATIENCE))
    signal.pause()
    signal.alarm(0)
    return received[:1] != [signal.SIGALRM]


def follow() -> int:
    """Wait until another process, which has failed, says how all end, and give that exit status."""
    return _watch.follow() if _watch else 1


def _say(message: str, *, is_cause: bool) -> None:
    """Print why this process ends if that is why all do, and tell the launcher in either case."""
    if is_cause:
        print(message, file=sys.stderr, flush=True)
    _tell_launcher(message if is_cause else FOLLOWED, is_cause=is_cause)


def _tell_launcher(message: str, *, is_cause: bool) -> None:
    """Leave word for torchrun, which takes the earliest for the cause and shows it in its summary."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return
    when = int(time.time()) + (0 if is_cause else FOLLOWERS_DELAY)
    word = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(when)}}
    with suppress(OSError):
        Path(path).write_text(json.dumps({"message": word}))
