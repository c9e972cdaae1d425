"""Several processes of one job end together, all with the exit status of the first that fails.

A process that fails alone leaves the others waiting for it until their launcher kills them, and their statuses then
say nothing. So each looks, every so often, whether another has left word in the store at which the processes met.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed

from backbones.training.machine import join_processes, process_count

_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 10.0
"""Seconds for which a process that fails waits until all others know."""


class _Watch:
    """This process's eye on the others: a thread with a connection of its own to the store where they met."""

    def __init__(self, before_exit: Callable[[], None]) -> None:
        self.before_exit = before_exit
        self.store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=_PATIENCE),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the launcher's store outlives one
        self.status_key, self.seen_key = f"backbench/{attempt}/status", f"backbench/{attempt}/seen"
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, name="together", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.ended.wait(_SECONDS_BETWEEN_LOOKS):
            with suppress(RuntimeError):  # the store has gone, with the process that had it
                if self.store.check([self.status_key]):
                    self._follow()

    def _follow(self) -> None:
        """End this process at once: its main thread may be waiting for one that has gone."""
        status = int(self.store.get(self.status_key))
        with suppress(OSError):
            self.before_exit()
        self.store.add(self.seen_key, 1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def end(self) -> None:
        self.ended.set()
        self.thread.join()

    def leave(self, status: int) -> int:
        """Say with which status this process ends, wait until all others know, and give the first that was said."""
        self.end()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, who sees that the others have ended
        with suppress(RuntimeError):
            status = int(self.store.compare_set(self.status_key, "", str(status)))
            seen, deadline = self.store.add(self.seen_key, 1), time.monotonic() + _PATIENCE
            while seen < process_count() and time.monotonic() < deadline:
                time.sleep(0.05)
                seen = self.store.add(self.seen_key, 0)
        return status

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
        join_processes()
        _watch = _Watch(before_exit)
        yield
        _watch.end()
        _watch = None


def leave(status: int) -> int:
    """Tell all other processes to end, and give the exit status for this one: that of the first that failed."""
    return _watch.leave(status) if _watch else status


def follow() -> int:
    """Wait until another process, which has failed, says how all end, and give that exit status."""
    return _watch.follow() if _watch else 1
