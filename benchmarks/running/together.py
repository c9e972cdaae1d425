"""Several processes of one job end together, all with the exit status of the first that fails, which says why.

A process that fails alone leaves the others waiting for it until their launcher kills them, and their statuses then
say nothing. So each looks, every so often, whether another has left word in the store at which the processes met.
"""

import itertools
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
from typing import NoReturn

from backbones.errors import TryAgainError
from backbones.training.machine import (
    join_processes,
    leads_node,
    meet_processes,
    meeting,
    process_count,
    process_rank,
)
from backbones.training.meeting import keeps_store

_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 10.0
"""Seconds for which a process that fails waits until all others know."""

_GRACE = 0.5
"""Seconds for which the store is kept for those that are about to see that all know: torch prints a dozen lines for
each that finds it gone."""

_FAILURES = 3
"""Looks in a row at a store that does not answer, until it is taken for gone."""

_LOOKS_BETWEEN_SIGNS = 20
_SIGNS_MISSED = 60
"""Of a process, one after the other, until it is taken for gone: ten minutes, more than Python can be kept from giving
one by any call that is known."""

_GONE = (
    "of this job has given no sign of life for ten minutes: its machine is gone, or cannot be reached. Repeat the "
    "command to go on from the last checkpoint"
)
LOST = (
    "backbench: the connection to another process of this job is lost: it was killed, or its machine is gone. "
    "Repeat the command to go on from the last checkpoint"
)
_LOST = f"{TryAgainError.status} lost"
"""In the store, as the status of all and who has said it."""

FOLLOWED = "ended because another process of the job has failed"
FOLLOWERS_DELAY = 60
"""Seconds by which the others' words are put off: torchrun counts whole ones, and all end within the same."""

_numbers = itertools.count()


class _Watch:
    """This process's eye on the others: a thread with a connection of its own to the store where they met."""

    def __init__(self, before_exit: Callable[[], None]) -> None:
        self.before_exit = before_exit
        self.meeting = meeting()
        self.store = self.meeting.connect_again(timedelta(seconds=_PATIENCE))
        self.keeps_store = keeps_store(self.meeting.place)
        self.number = next(_numbers)
        self.signs: dict[int, tuple[int, int]] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, name="together", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        looks = failures = 0
        while not self.ended.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                if self.store.check(["status"]):
                    self._follow()
                if looks % _LOOKS_BETWEEN_SIGNS == 0:
                    self._give_sign()
                    if process_rank() == 0:
                        self._look_for_signs()
                looks, failures = looks + 1, 0
            except RuntimeError:
                failures += 1
                if failures == _FAILURES:
                    self._lose_store()

    def _give_sign(self) -> None:
        self.store.add(f"sign/{process_rank()}", 1)

    def _look_for_signs(self) -> None:
        """End all if one has given none for so long that its machine has gone: no connection tells of that.

        Looks are counted, no seconds: all may have been suspended together.
        """
        for rank in range(1, process_count()):
            sign = self.store.add(f"sign/{rank}", 0)
            before, missed = self.signs.get(rank, (-1, 0))
            self.signs[rank] = sign, missed + 1 if sign == before else 0
            if self.signs[rank][1] >= _SIGNS_MISSED:
                if self.store.compare_set("status", "", _LOST).decode() == _LOST:
                    print(f"backbench: process {rank} {_GONE}", file=sys.stderr, flush=True)
                self._follow()

    def _follow(self) -> None:
        """End this process at once: its main thread may be waiting for one that has gone."""
        status = int(self.store.get("status").split()[0])
        _tell_launcher(FOLLOWED, is_cause=False)
        if self.keeps_store:
            self.store.add("seen", 1)
            self._wait_until_all_know()
        self._exit(status)

    def _lose_store(self) -> None:
        """End as where a connection is lost: who kept the store has gone, and with it all that could be said."""
        if _speaks_for_others():
            print(LOST, file=sys.stderr, flush=True)
        _tell_launcher(FOLLOWED, is_cause=False)
        self._exit(TryAgainError.status)

    def _exit(self, status: int) -> NoReturn:
        """Only now, since the main thread may have been amid a save, is the claim given back."""
        with suppress(OSError):
            self.before_exit()
        with suppress(RuntimeError):
            self.store.add("seen", 1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def end(self) -> None:
        self.ended.set()
        self.thread.join()

    def finish(self) -> None:
        """End the watch where all has gone well; who keeps the store waits for the others, who look there so long."""
        with suppress(RuntimeError):
            self.store.add(f"finished/{self.number}", 1)
            if self.keeps_store:
                self._wait_for_all(f"finished/{self.number}")
        self.end()

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
            self._wait_until_all_know()
        _say(message, is_cause=said == own)
        return int(said.split()[0])

    def lose(self) -> int:
        """Do as `leave`, but wait for nobody: one of the others can't know any more."""
        self.end()
        speaks, said = _speaks_for_others(), _LOST
        with suppress(RuntimeError):
            own = f"{TryAgainError.status} {process_rank()}"
            said = self.store.compare_set("status", "", own).decode()
            speaks = said == own
        if speaks:
            print(LOST, file=sys.stderr, flush=True)
        _tell_launcher(FOLLOWED, is_cause=False)
        return int(said.split()[0])

    def _wait_until_all_know(self) -> None:
        self._wait_for_all("seen")
        if self.keeps_store:
            time.sleep(_GRACE)

    def _wait_for_all(self, key: str) -> None:
        """Until all processes have counted there, or for so long that the others have gone or hang."""
        deadline = time.monotonic() + _PATIENCE
        while self.store.add(key, 0) < process_count() and time.monotonic() < deadline:
            time.sleep(0.05)

    def follow(self) -> int:
        """Wait for the thread that looks to end this process; the status of an unknown fault if nothing is said."""
        self.thread.join(_PATIENCE)
        return 1


def _speaks_for_others() -> bool:
    """Whether to say what all find that are left where they cannot agree on who does; the first may have gone."""
    return process_rank() == 1 or leads_node()


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
        _watch.finish()
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


def lose() -> int:
    """Tell all processes that are left to end, where one has gone that said nothing; the exit status for this one."""
    return _watch.lose() if _watch else leave(TryAgainError.status, LOST)


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
