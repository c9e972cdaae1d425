"""Ctrl-C and the scheduler's signals, for a suite: its cells are asked to save, at the second time they are killed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_INSISTING = (signal.SIGINT, signal.SIGTERM)
"""What says, the second time, that there is to be no more waiting. A closing terminal sends SIGHUP more than once."""


class Signals:
    """What this process has been asked.

    asked:    to end
    insisted: to end at once
    """

    asked = insisted = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """The handler. It takes no lock, which what it interrupts may have."""
        self.insisted = self.insisted or (self.asked and number in _INSISTING)
        self.asked = True

    def pass_over(self, number: int, frame: FrameType | None) -> None:
        """The handler of what has no effect."""


@contextmanager
def listening() -> Iterator[Signals]:
    """Take note of signals within the block; the former handlers come back after it.

    Where SIGHUP is ignored, as under nohup, it stays without effect. What is started meanwhile does not ignore it: no
    terminal's end reaches cells, which have sessions of their own, and `processes.stop` may ask them by it.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    passed_over = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    former = {
        number: signal.signal(number, signals.pass_over if number in passed_over else signals.request)
        for number in SIGNALS
    }
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
